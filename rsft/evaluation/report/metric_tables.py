"""Make the numbers of a page: sentences, headline numbers, tables and costs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from rsft.evaluation.report.render import (
    format_bytes,
    format_duration,
    format_percent,
    join_words,
    points_apart,
)
from rsft.evaluation.report.run_files import RunFiles
from rsft.evaluation.schema import Evaluation
from rsft.metrics.intervals import Interval
from rsft.recipe.schema import Recipe
from rsft.types import GROUPS


def order_by_training(evaluation: Evaluation) -> list[int]:
    """Return class indices (C,) from head to tail, then classes without a group.

    Within a group, the number of chips falls.
    """
    ranks: dict[int, int] = {}
    for number, group in enumerate(GROUPS):
        ranks |= dict.fromkeys(evaluation.groups.get(group, []), number)
    counts = evaluation.train_counts
    return sorted(
        range(len(counts)),
        key=lambda index: (ranks.get(index, len(GROUPS)), -counts[index]),
    )


def group_of_class(evaluation: Evaluation, index: int) -> str:
    """Return the group of a class, or "" for a class without one."""
    for group in GROUPS:
        if index in evaluation.groups.get(group, []):
            return group
    return ""


def wilson_interval(hits: int, count: int) -> Interval:
    """Return a proportion with its 95 % interval (Wilson 1927)."""
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return Interval(hits / count, float(interval.low), float(interval.high))


def recall_interval(evaluation: Evaluation, index: int) -> str:
    """Return the 95 % interval of the recall of a class; "–" without test chips."""
    row = evaluation.confusion[index]
    if not sum(row):
        return "–"
    return format_interval(wilson_interval(row[index], sum(row)))


def training_shares(evaluation: Evaluation) -> list[float]:
    """Return the lengths (0-1) of bars of the training chips, on a logarithmic axis."""
    lengths = np.log1p(evaluation.train_counts)
    shares: list[float] = (lengths / max(lengths.max(), 1e-9)).tolist()
    return shares


def class_names(evaluation: Evaluation, indices: Sequence[int]) -> str:
    """Return the names of classes as an enumeration."""
    return join_words([evaluation.classes[index] for index in indices])


def best_baseline(evaluation: Evaluation, measure: str) -> tuple[str, Interval] | None:
    """Return name and value of the best baseline by a measure, such as "micro".

    None without a baseline.
    """
    best = None
    for name, summary in evaluation.baselines.items():
        interval = getattr(summary, measure)
        if interval and (not best or interval.value > best[1].value):
            best = (name, interval)
    return best


def trained_parts(recipe: Recipe) -> str:
    """Return what a recipe trains.

    For example "LoRA with learned scales and the classifier head".
    """
    if recipe.peft.method == "linear-probe":
        return "only the classifier head"
    scales = " with learned scales" if recipe.meta else ""
    if recipe.peft.method == "full":
        return "all weights"
    return f"{recipe.peft.title}{scales} and the classifier head"


def describe_result(evaluation: Evaluation, recipe: Recipe) -> tuple[str, str]:
    """Return what was trained, and how good it is beside the best baseline.

    The best one is chosen by macro accuracy, as a choice compares.
    """
    chips = sum(evaluation.train_counts)
    classes = len(evaluation.classes)
    frozen = recipe.peft.method != "full"
    encoder = f"the {'frozen ' if frozen else ''}encoder {recipe.backbone.name}"
    trained = (
        f"This run trained {trained_parts(recipe)} on {chips:,} chips of {classes:,}"
        f" classes, with {encoder}."
    )
    overall = format_percent(evaluation.summary.micro.value)
    result = (
        f"It classifies {overall}{evaluation.mark} % of {evaluation.count:,}"
        f" {evaluation.split} chips correctly"
    )
    best = best_baseline(evaluation, "macro")
    if best:
        name, reference = best
        macro = evaluation.summary.macro
        gain = evaluation.differences.get(name, {}).get("macro")
        doubt = ""
        if gain and gain.low <= 0 <= gain.high:
            doubt = "; this may be chance"
        mean = f"{format_percent(macro.value)}{evaluation.mark} %"
        apart = points_apart(macro.value, reference.value)
        result += (
            f"; its macro accuracy is {mean}, {apart} the best baseline ({name}{doubt})"
        )
    return trained, ". ".join([result, *constant_baselines(evaluation)]) + "."


def constant_baselines(evaluation: Evaluation) -> list[str]:
    """Return a sentence for each baseline that predicts one class for all chips.

    Its overall accuracy misleads.
    """
    sentences = []
    for name, summary in evaluation.baselines.items():
        answer = summary.only_answer
        if answer is not None:
            share = format_percent(summary.macro.value)
            label = evaluation.classes[answer]
            sentences.append(
                f"The {name} answers {label} for every chip (macro accuracy {share} %)"
            )
    return sentences


def headline_numbers(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return the numbers of the first screen, at most four.

    Each has a label, a value in percent, and its interval or the name of a class.
    """
    summary = evaluation.summary
    rows = []
    for label, name in (("Overall", "micro"), *((x.capitalize(), x) for x in GROUPS)):
        value = getattr(summary, name)
        if value:
            rows.append((label, value.value, format_interval(value)))
    index, recall = summary.worst
    rows.append(("Weakest class", recall, evaluation.classes[index]))
    return [
        (label, format_percent(value) + evaluation.mark, detail)
        for label, value, detail in rows[:4]
    ]


class TableCell(NamedTuple):
    """A cell of a table of measures: a number, and the text below it."""

    value: str
    detail: str = ""


TableRow = tuple[str, str, list[TableCell | None]]
"""Name and description of a row, and its cells; None for a number that is not
defined."""


def format_interval(interval: Interval, decimals: int | None = None) -> str:
    """Return both ends of an interval, such as "84.1–87.3".

    It is in percent with one decimal if `decimals` is None.
    """
    return f"{_format(interval.low, decimals)}–{_format(interval.high, decimals)}"


def _format(value: float, decimals: int | None) -> str:
    if decimals is None:
        return format_percent(value)
    return f"{value:.{decimals}f}"


class Measure(NamedTuple):
    """A further measure: label, note, field of `AccuracySummary`, and how to show it.

    Attributes:
        decimals: decimals of the number; None for percent.
    """

    label: str
    note: str
    name: str
    decimals: int | None = None


_MEASURES = (
    Measure("Overall", "share of all chips", "micro"),
    Measure("Mean of groups", "mean recall of head, medium and tail", "avg"),
    *(Measure(group.capitalize(), "mean recall", group) for group in GROUPS),
    Measure("All classes", "mean recall (macro accuracy)", "macro"),
    Measure("Macro F1", "mean of classes", "macro_f1"),
    Measure("Harmonic mean", "of class recall", "harmonic"),
    Measure("Worst class", "lowest recall", "worst"),
    Measure("Top 2", "class is among the two most probable", "top2"),
    Measure("Log loss", "in nats; lower is better", "log_loss", 2),
    Measure("Calibration error", "ECE; lower is better", "ece"),
)


def measure_rows(evaluation: Evaluation) -> list[TableRow]:
    """Return the measures of every method, one row per measure that is defined."""
    rows: list[TableRow] = []
    for measure in _MEASURES:
        cells = []
        for summary in evaluation.methods.values():
            value: Any = getattr(summary, measure.name)
            detail = ""
            if isinstance(value, Interval):
                detail = format_interval(value, measure.decimals)
                value = value.value
            elif measure.name == "worst":
                index, value = value
                detail = evaluation.classes[index]
            cell = None
            if value is not None:
                text = _format(value, measure.decimals) + evaluation.mark
                cell = TableCell(text, detail)
            cells.append(cell)
        if any(cells):
            rows.append((measure.label, measure.note, cells))
    return rows


def cost_table(run: RunFiles) -> dict[str, str]:
    """Return time, memory and trained parameters of a run as texts by name.

    Costs that the run did not record are missing.
    """
    metadata = run.metadata
    table = {}
    if metadata.seconds is not None:
        table["Time of the run"] = format_duration(metadata.seconds)
    if metadata.trained_parameters is not None:
        trained = f"{metadata.trained_parameters:,}"
        if metadata.total_parameters:
            trained += f" of {metadata.total_parameters:,}"
        table["Trained parameters"] = trained
    epochs = run.epochs
    if epochs is not None:
        table["Epochs"] = str(len(epochs))
        columns = {"memory_mb": "Peak memory", "gpu_mb": "Peak GPU memory"}
        for column, name in columns.items():
            if column in epochs and epochs[column].max() >= 0:  # not NaN
                table[name] = format_bytes(int(1e6 * epochs[column].max()))
    if metadata.device:
        table["Device"] = metadata.device
    return table
