"""Make the numbers of a page: sentences, headline numbers, tables and costs."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rsft.evaluation.report.render import (
    format_bytes,
    format_duration,
    format_percent,
    join_words,
    points_apart,
    signed_points,
)
from rsft.evaluation.report.run_files import RunFiles
from rsft.evaluation.schema import LINEAR_PROBE, MEANINGS, Evaluation
from rsft.metrics.intervals import Interval
from rsft.models.uncertainty.statistics import SHIFT_LEVEL, largest_chance_share
from rsft.recipe.schema import Recipe
from rsft.types import GROUPS

ACCURACIES = {
    "micro": "Overall",
    "avg": "Mean of groups",
    "head": "Head",
    "medium": "Medium",
    "tail": "Tail",
}
"""Accuracies that charts and tables compare, by attribute of `AccuracySummary`."""

MACRO = "All classes (macro)"


def order_by_training(evaluation: Evaluation) -> list[int]:
    """Return class indices (C,) from head to tail, then classes without a group.

    Within a group, the number of chips falls.
    """
    rank = {
        index: number
        for number, group in enumerate(GROUPS)
        for index in evaluation.groups.get(group, [])
    }
    counts = evaluation.train_counts
    return sorted(
        range(len(counts)),
        key=lambda index: (rank.get(index, len(GROUPS)), -counts[index]),
    )


def group_of_class(evaluation: Evaluation, index: int) -> str:
    """Return the group of a class, or "" for a class without one."""
    return next(
        (group for group in GROUPS if index in evaluation.groups.get(group, [])), ""
    )


def class_names(evaluation: Evaluation, indices: Sequence[int]) -> str:
    """Return the names of classes as an enumeration."""
    return join_words([evaluation.classes[index] for index in indices])


def chance_share(evaluation: Evaluation) -> float | None:
    """Return the share of chips that chance may mark as unlike the training.

    None if it is unknown.
    """
    report = evaluation.confidence
    if report is None or report.validation_chips is None:
        return None
    return largest_chance_share(
        evaluation.count,
        report.validation_chips,
        report.ood_false_positive_rate,
        SHIFT_LEVEL,
    )


def best_baseline(evaluation: Evaluation, measure: str) -> tuple[str, Interval] | None:
    """Return name and value of the best baseline by a measure, such as "micro".

    None without a baseline.
    """
    values = {
        name: getattr(summary, measure)
        for name, summary in evaluation.baselines.items()
    }
    defined = {
        name: interval for name, interval in values.items() if interval is not None
    }
    if defined:
        return max(defined.items(), key=lambda item: item[1].value)
    return None


def intervals_overlap(first: Interval, second: Interval) -> bool:
    """Return whether two intervals have a value in common."""
    return first.low <= second.high and second.low <= first.high


def trained_parts(recipe: Recipe) -> str:
    """Return what a recipe trains.

    For example "LoRA with learned scales and the classifier head".
    """
    if recipe.peft.method == "linear-probe":
        return "only the classifier head"
    scales = " with learned scales" if recipe.meta is not None else ""
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
    overall = evaluation.summary.micro
    macro = evaluation.summary.macro
    share, mean = (
        f"{format_percent(value.value)}{evaluation.mark} %"
        for value in (overall, macro)
    )
    result = (
        f"It classifies {share} of {evaluation.count:,} {evaluation.split} chips"
        " correctly"
    )
    best = best_baseline(evaluation, "macro")
    if best is not None:
        name, reference = best
        gain = evaluation.differences.get(name, {}).get("macro")
        if gain:
            by_chance = gain.low <= 0 <= gain.high
        else:
            by_chance = intervals_overlap(macro, reference)
        if not by_chance:
            doubt = ""
        else:
            if gain:
                doubt = "; this may be chance"
            else:
                doubt = "; the intervals overlap"
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
    """Return the four numbers of the first screen.

    Each has a label, a value in percent, and its interval or the name of a class.

    The mean of the groups is no number of its own if it equals the overall accuracy.
    """
    summary = evaluation.summary
    mark = evaluation.mark
    values = {
        ACCURACIES[key]: x for key in ("micro", *GROUPS) if (x := getattr(summary, key))
    }
    if summary.avg and len(values) > 2:  # the mean of several groups
        if format_percent(summary.avg.value) == format_percent(summary.micro.value):
            values = {"Overall and mean of groups": values.pop("Overall"), **values}
        else:
            values["Mean of groups"] = summary.avg
    rows = [
        (label, format_percent(x.value) + mark, format_interval(x))
        for label, x in values.items()
    ]
    index, recall = summary.worst
    rows.append(
        ("Weakest class", format_percent(recall) + mark, evaluation.classes[index])
    )
    rows += (
        [("In the top 2", format_percent(x.value) + mark, format_interval(x))]
        if (x := summary.top2)
        else []
    )
    return rows[:4]


class TableCell(NamedTuple):
    """A cell of a table of measures: a number, text, and whether it is best.

    The text stands below the number; the best is that of its row.
    """

    value: str
    detail: str = ""
    best: bool = False


TableRow = tuple[str, str, list[TableCell | None]]
"""Name and description of a row, and its cells; None for a number that is not
defined."""


def accuracy_cells(
    intervals: Iterable[Interval | None],
    best: Iterable[float | None],
    marks: Iterable[str],
) -> list[TableCell | None]:
    """Return the cells of accuracies in percent.

    `best` is the value marked as the best, `marks` follow the numbers.
    """
    return [
        (
            TableCell(
                format_percent(x.value) + mark, format_interval(x), x.value == highest
            )
            if x
            else None
        )
        for x, highest, mark in zip(intervals, best, marks, strict=True)
    ]


def accuracy_rows(
    evaluations: Sequence[Evaluation | None],
) -> list[tuple[str, list[TableCell | None]]]:
    """Return each measure with one cell per run.

    None if the measure is not defined or the run was not evaluated.
    """
    labels = ACCURACIES | {"macro": MACRO, "macro_f1": "Macro F1", "top2": "Top 2"}
    rows = []
    for measure, label in labels.items():
        values = [
            getattr(evaluation.summary, measure) if evaluation else None
            for evaluation in evaluations
        ]
        best = max((interval.value for interval in values if interval), default=None)
        if best is not None:
            marks = [
                evaluation.mark if evaluation else "" for evaluation in evaluations
            ]
            rows.append((label, accuracy_cells(values, [best] * len(values), marks)))
    return rows


def format_interval(interval: Interval, decimals: int | None = None) -> str:
    """Return both ends of an interval, such as "84.1–87.3".

    It is in percent with one decimal if `decimals` is None.
    """
    return "–".join(_format(end, decimals) for end in (interval.low, interval.high))


def _format(value: float, decimals: int | None) -> str:
    if decimals is None:
        return format_percent(value)
    return f"{value:.{decimals}f}"


def method_columns(evaluation: Evaluation) -> dict[str, str]:
    """Return the headings of the table of methods, by `AccuracySummary` field."""
    return {
        name: label
        for name, label in ACCURACIES.items()
        if getattr(evaluation.summary, name)
    }


def method_rows(evaluation: Evaluation, recipe: Recipe) -> list[TableRow]:
    """Return the accuracy of each method, the simplest baseline first.

    The run's gain over the linear probe follows.
    """
    columns = method_columns(evaluation)
    methods = evaluation.methods
    peft = recipe.peft
    run_meaning = f"This run: {trained_parts(recipe)}."
    defined = [
        [x for summary in methods.values() if (x := getattr(summary, column))]
        for column in columns
    ]
    best = [
        max(x.value for x in column) if len(methods) > 1 else None for column in defined
    ]
    rows: list[TableRow] = []
    for name, summary in reversed(methods.items()):
        cells = accuracy_cells(
            [getattr(summary, x) for x in columns],
            best,
            [evaluation.mark] * len(columns),
        )
        rows.append(
            (
                name,
                run_meaning if name == evaluation.method else MEANINGS.get(name, ""),
                cells,
            )
        )
    probe = evaluation.baselines.get(LINEAR_PROBE)
    if probe is None or peft.method == "linear-probe":
        return rows
    added: list[TableCell | None] = []
    for column in columns:
        value = getattr(evaluation.summary, column)
        reference = getattr(probe, column)
        if reference and intervals_overlap(value, reference):
            overlap = "intervals overlap"
        else:
            overlap = "intervals apart"
        added.append(
            reference
            and TableCell(signed_points(value.value, reference.value), overlap)
        )
    if recipe.meta is None:
        name = f"{peft.title} adds"
    else:
        name = f"{peft.title} and its scales add"
    if recipe.meta:
        alone = (
            " A run without the recipe section meta shows what"
            f" {peft.title} adds alone."
        )
    else:
        alone = ""
    return [
        *rows,
        (name, f"The run minus the {LINEAR_PROBE}, in points.{alone}", added),
    ]


def baseline_rows(evaluation: Evaluation) -> tuple[list[str], list[TableRow]]:
    """Return the columns and rows of the table of baselines.

    It has macro accuracy, and accuracy of the rarest group.

    Below each number is the difference of the run from it in points, with the interval
    of a paired bootstrap if the evaluation contains it.
    """
    measures = [
        "macro",
        *[group for group in GROUPS if getattr(evaluation.summary, group)][-1:],
    ]
    rows: list[TableRow] = []
    for name, summary in evaluation.baselines.items():
        cells: list[TableCell | None] = []
        for measure in measures:
            value = getattr(evaluation.summary, measure)
            reference = getattr(summary, measure)
            gain = evaluation.differences.get(name, {}).get(measure)
            if gain:
                interval = (
                    f" ({signed_points(gain.low, 0)} to {signed_points(gain.high, 0)})"
                )
            else:
                interval = ""
            text = (
                reference and f"{signed_points(value.value, reference.value)}{interval}"
            )
            cells.append(
                reference
                and TableCell(format_percent(reference.value) + evaluation.mark, text)
            )
        rows.append((name, "", cells))
    return [(ACCURACIES | {"macro": MACRO})[measure] for measure in measures], rows


def measure_rows(evaluation: Evaluation) -> list[TableRow]:
    """Return the further measures of every method, one row per measure."""
    rows: list[TableRow] = []
    for label, note, measure, decimals, best_of in (
        ("All classes", "mean recall (macro accuracy)", "macro", None, max),
        ("Macro F1", "mean of classes", "macro_f1", None, max),
        ("Harmonic mean", "of class recall", "harmonic", None, max),
        ("Worst class", "lowest recall", "worst", None, max),
        ("Top 2", "class is among the two most probable", "top2", None, max),
        ("Log loss", "in nats; lower is better", "log_loss", 2, min),
        ("Calibration error", "ECE; lower is better", "ece", None, min),
    ):
        # value, and its interval or the name of the worst class
        items: list[tuple[float, str] | None] = []
        for summary in evaluation.methods.values():
            value: Any = getattr(summary, measure)
            if isinstance(value, Interval):
                items.append((value.value, format_interval(value, decimals)))
            elif measure == "worst":
                items.append((value[1], evaluation.classes[value[0]]))
            else:
                items.append(None if value is None else (value, ""))
        values = [item[0] for item in items if item]
        best = best_of(values) if len(values) > 1 else None
        cells = [
            item and TableCell(_format(item[0], decimals), item[1], item[0] == best)
            for item in items
        ]
        rows.append((label, note, cells))
    return rows


def pseudo_label_shares(
    table: pd.DataFrame, classes: Sequence[str]
) -> list[tuple[str, float]]:
    """Return the share of pseudo-labels of each class, in the last epoch.

    The last epoch is the last one with any chips.
    """
    rows = table[table["chips"] > 0]
    columns = [f"class_{index}" for index in range(len(classes))]
    if rows.empty or not set(columns) <= set(rows):
        return []
    last = rows.iloc[-1]
    return [
        (name, float(last[column] / last["chips"]))
        for name, column in zip(classes, columns, strict=True)
    ]


def frequent_mistakes(
    evaluation: Evaluation, limit: int = 8
) -> list[tuple[str, str, int, str]]:
    """Return at most `limit` of the largest errors in the confusion matrix.

    Returns:
        True class, predicted class, number of chips, and their share of the true class
        in percent, by falling number.
    """
    matrix = np.array(evaluation.confusion)
    names = evaluation.classes
    chips = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    largest = np.argsort(-matrix, axis=None, kind="stable")[:limit]
    return [
        (
            names[row],
            names[column],
            int(matrix[row, column]),
            format_percent(matrix[row, column] / chips[row]),
        )
        for row, column in zip(*np.unravel_index(largest, matrix.shape), strict=True)
        if matrix[row, column]
    ]


def cost_table(run: RunFiles) -> dict[str, str]:
    """Return time, memory and size of a run as texts by name.

    Costs that the run did not record are missing.
    """
    metadata = run.metadata
    hardware = run.metadata.hardware
    table = {}
    if metadata.seconds is not None:
        table["Time of the run"] = format_duration(metadata.seconds)
    epochs = run.epochs
    if epochs is not None:
        seconds = epochs["seconds"].median()
        speed = epochs["images_per_s"].median()  # NaN if all are empty
        table["Epochs"] = f"{len(epochs)}" + (
            f", each {format_duration(seconds)} (median)" if seconds >= 0 else ""
        )
        table |= (
            {"Training speed": f"{speed:,.0f} images/s (median)"} if speed >= 0 else {}
        )
        for column, name in (
            ("memory_mb", "Peak memory"),
            ("gpu_mb", "Peak GPU memory"),
        ):
            if column in epochs and (peak := epochs[column].max()) >= 0:
                table[name] = format_bytes(int(1e6 * peak))
    trained = metadata.trained_parameters
    if trained is not None:
        total = metadata.total_parameters
        if total:
            share = f" of {total:,} ({trained / total:.1%})"
        else:
            share = ""
        table["Trained parameters"] = f"{trained:,}{share} (adapter and head)"
    counts = (
        "?" if count is None else str(count)
        for count in (hardware.threads, hardware.cores)
    )
    others = {
        "Modulator": (
            f"{metadata.modulator_parameters:,} scalars"
            if metadata.modulator_parameters
            else ""
        ),
        "Bundle": "" if run.bundle_bytes is None else format_bytes(run.bundle_bytes),
        "Device": metadata.device,
        "GPU": ", ".join(hardware.gpus),
        "Processor": (
            f"{hardware.cpu}, {' of '.join(counts)} threads" if hardware.cpu else ""
        ),
    }
    return table | {name: value for name, value in others.items() if value}


def peak_memory_mb(epochs: pd.DataFrame | None) -> float | None:
    """Return the peak memory in MB, or None if it was not measured.

    It is that of the GPU if the run used one, else of the process.

    Args:
        epochs: the table metrics.csv, or None.
    """
    for column in ("gpu_mb", "memory_mb"):
        if epochs is not None and column in epochs and epochs[column].notna().any():
            return float(epochs[column].max())
    return None
