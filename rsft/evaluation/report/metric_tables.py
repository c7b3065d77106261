"""Make the headline numbers, the table of methods, and the table of further measures of every method.

Describe the accuracy of a run in sentences: what it gains and what it loses against the baselines.

Make the table of classes and the table of the most frequent mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from rsft.evaluation.report.render import format_percent, points_apart, signed_points
from rsft.evaluation.schema import LINEAR_PROBE, MEANINGS, Evaluation
from rsft.metrics.accuracy import AccuracySummary
from rsft.metrics.bootstrap import Interval
from rsft.recipe.schema import Recipe
from rsft.types import GROUPS

_COMPARED = {"micro": "overall"} | {group: group for group in GROUPS}


def summary_sentences(evaluation: Evaluation) -> list[str]:
    """Describe the accuracy of a run, compared with the best baseline of each group.

    Args:
        evaluation: evaluation of the run.

    Returns:
        Overall accuracy, the accuracy of every group with chips, and the weakest class.
    """
    summary = evaluation.summary
    chips = f"{evaluation.count:,} {evaluation.split} chips"
    overall = f"{evaluation.method} classifies {_with_unit(summary.micro.value)} of {chips} correctly"
    sentences = [f"{overall}{_compare_with_best(evaluation, 'micro')}."]
    for group in filter(partial(getattr, summary), GROUPS):
        name = f"For the {group} classes, it is" if len(sentences) > 1 else f"The mean recall of the {group} classes is"
        recall = _with_unit(getattr(summary, group).value)
        sentences.append(f"{name} {recall}{_compare_with_best(evaluation, group)}.")
    index, worst = summary.worst
    return [*sentences, f"The weakest class is {evaluation.classes[index]} (recall {_with_unit(worst)})."]


def gains_and_losses(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return what the run gains or loses against each baseline, in points.

    Args:
        evaluation: evaluation of the run.

    Returns:
        Name of each baseline, and the differences of overall accuracy and of every group.
    """
    return [(name, _differences(evaluation.summary, baseline)) for name, baseline in evaluation.baselines.items()]


def _differences(run: AccuracySummary, baseline: AccuracySummary) -> str:
    pairs = {label: (getattr(run, name), getattr(baseline, name)) for name, label in _COMPARED.items()}
    differences = [f"{label} {signed_points(x.value, y.value)}" for label, (x, y) in pairs.items() if x and y]
    return ", ".join(differences)


def best_baseline(evaluation: Evaluation, measure: str) -> tuple[str, Interval] | None:
    """Return the baseline with the highest value of a measure.

    Args:
        evaluation: evaluation of the run.
        measure: attribute of `AccuracySummary` that has an interval, such as "micro".

    Returns:
        Name and value; None if no baseline has this measure.
    """
    values = {name: getattr(summary, measure) for name, summary in evaluation.baselines.items()}
    defined = {name: interval for name, interval in values.items() if interval is not None}
    return max(defined.items(), key=lambda item: item[1].value) if defined else None


def intervals_overlap(first: Interval, second: Interval) -> bool:
    """Return whether two intervals have a value in common."""
    return first.low <= second.high and second.low <= first.high


def _compare_with_best(evaluation: Evaluation, measure: str) -> str:
    best = best_baseline(evaluation, measure)
    if best is None:
        return ""
    name, baseline = best
    run: Interval = getattr(evaluation.summary, measure)
    overlap = "; the intervals overlap" if intervals_overlap(run, baseline) else ""
    return f", {points_apart(run.value, baseline.value)} the best baseline ({name}{overlap})"


def _with_unit(value: float) -> str:
    return f"{format_percent(value)}\N{NO-BREAK SPACE}%"


ACCURACIES = {"micro": "Overall", "avg": "Mean of groups", "head": "Head", "medium": "Medium", "tail": "Tail"}
"""Columns of the table of methods, and headline numbers, by attribute of `AccuracySummary`."""


@dataclass(frozen=True)
class TableCell:
    """A cell of a table of measures.

    Attributes:
        value: the number.
        detail: text below the number: its interval, or the name of a class.
        best: whether it is the best number of its row.
    """

    value: str
    detail: str = ""
    best: bool = False


@dataclass(frozen=True)
class MeasureRow:
    """One measure of all methods.

    Attributes:
        label: name of the measure.
        note: short description.
        cells: one cell per method; None if the measure is not defined.
    """

    label: str
    note: str
    cells: list[TableCell | None]


@dataclass(frozen=True)
class MethodRow:
    """The accuracy of one method by group.

    Attributes:
        name: name of the method.
        meaning: what the row shows, in a sentence.
        cells: one cell per column; None if the accuracy is not defined.
    """

    name: str
    meaning: str
    cells: list[TableCell | None]


def method_columns(evaluation: Evaluation) -> dict[str, str]:
    """Return the columns of the table of methods: the accuracies that the run has.

    Args:
        evaluation: evaluation of the run.

    Returns:
        Heading by attribute of `AccuracySummary`.
    """
    return {name: label for name, label in ACCURACIES.items() if getattr(evaluation.summary, name)}


def method_rows(evaluation: Evaluation, recipe: Recipe) -> list[MethodRow]:
    """Return the accuracy of the run and of each baseline, and what the trained modules add to the linear probe.

    Args:
        evaluation: evaluation of the run.
        recipe: recipe of the run.

    Returns:
        One row per method, from the simplest baseline to the run, and one row with the difference.
    """
    columns = method_columns(evaluation)
    methods = dict(reversed(evaluation.methods.items()))
    best = {column: _best_value(evaluation, column) for column in columns}
    rows = []
    for name, summary in methods.items():
        cells = [_accuracy_cell(getattr(summary, column), best[column]) for column in columns]
        meaning = MEANINGS.get(name, "") if name != evaluation.method else _describe_run(recipe)
        rows.append(MethodRow(name, meaning, cells))
    probe = evaluation.baselines.get(LINEAR_PROBE)
    if probe is None or recipe.peft.method == "linear-probe":
        return rows
    return [*rows, _added_row(evaluation.summary, probe, columns, recipe)]


def _describe_run(recipe: Recipe) -> str:
    if recipe.peft.method == "linear-probe":
        return "This run: the classifier head, trained on frozen features."
    scales = " with learned scales" if recipe.meta is not None else ""
    return f"This run: {recipe.peft.title}{scales} and the classifier head."


def _added_row(run: AccuracySummary, probe: AccuracySummary, columns: Mapping[str, str], recipe: Recipe) -> MethodRow:
    has_scales = recipe.meta is not None
    cells: list[TableCell | None] = []
    for column in columns:
        value, reference = getattr(run, column), getattr(probe, column)
        if reference is None:
            cells.append(None)
            continue
        overlap = "intervals overlap" if intervals_overlap(value, reference) else "intervals apart"
        cells.append(TableCell(signed_points(value.value, reference.value), overlap))
    title = recipe.peft.title
    name = f"{title} and its scales add" if has_scales else f"{title} adds"
    scales = f" A run without the recipe section meta shows what {title} adds alone." if has_scales else ""
    return MethodRow(name, f"The run minus the {LINEAR_PROBE}, in points.{scales}", cells)


def _best_value(evaluation: Evaluation, measure: str) -> float | None:
    """Return the highest value of all methods; None without baselines."""
    intervals = [getattr(summary, measure) for summary in evaluation.methods.values()]
    return max(x.value for x in intervals if x) if len(intervals) > 1 else None


def _accuracy_cell(interval: Interval | None, best: float | None) -> TableCell | None:
    if interval is None:
        return None
    return TableCell(format_percent(interval.value), format_interval(interval), interval.value == best)


def measure_rows(evaluation: Evaluation) -> list[MeasureRow]:
    """Return the further measures of every method.

    Args:
        evaluation: evaluation of the run.

    Returns:
        One row per measure. A measure that no method has, as in evaluations of older versions, is left out.
    """
    log_loss = _row(evaluation, "Log loss", "in nats; lower is better", _with_interval("log_loss", 2), 2, lowest=True)
    return [
        _row(evaluation, "All classes", "mean recall (macro accuracy)", _with_interval("macro")),
        _row(evaluation, "Macro F1", "mean of classes", _with_interval("macro_f1")),
        _row(evaluation, "Harmonic mean", "of class recall", lambda summary: (summary.harmonic, "")),
        _row(evaluation, "Worst class", "lowest recall", lambda summary: _worst_class(evaluation, summary)),
        *_if_defined(_row(evaluation, "Top 2", "class is among the two most probable", _with_interval("top2"))),
        *_if_defined(log_loss),
        _row(evaluation, "Calibration error", "ECE; lower is better", _calibration_error, lowest=True),
    ]


ValueFn = Callable[[AccuracySummary], tuple[float, str] | None]
"""A function that returns a value of a summary and the text below it; None if the value is not defined."""


def _with_interval(measure: str, decimals: int | None = None) -> ValueFn:
    def value(summary: AccuracySummary) -> tuple[float, str] | None:
        interval: Interval | None = getattr(summary, measure)
        return (interval.value, format_interval(interval, decimals)) if interval else None

    return value


def _worst_class(evaluation: Evaluation, summary: AccuracySummary) -> tuple[float, str]:
    index, recall = summary.worst
    return recall, evaluation.classes[index]


def _calibration_error(summary: AccuracySummary) -> tuple[float, str] | None:
    return None if summary.ece is None else (summary.ece, "")


def _row(
    evaluation: Evaluation,
    label: str,
    note: str,
    value_fn: ValueFn,
    decimals: int | None = None,
    lowest: bool = False,
) -> MeasureRow:
    items = [value_fn(summary) for summary in evaluation.methods.values()]
    values = [item[0] for item in items if item]
    best = (min if lowest else max)(values) if len(values) > 1 else None
    cells = [item and TableCell(_format(item[0], decimals), item[1], item[0] == best) for item in items]
    return MeasureRow(label, note, cells)


def _if_defined(row: MeasureRow) -> list[MeasureRow]:
    """Return the row, or an empty list if no method has the measure, as in evaluations of older versions."""
    return [row] if any(row.cells) else []


def _format(value: float, decimals: int | None) -> str:
    return format_percent(value) if decimals is None else f"{value:.{decimals}f}"


def format_interval(interval: Interval, decimals: int | None = None) -> str:
    """Return both ends of an interval, such as "84.1–87.3".

    Args:
        interval: interval of a measure.
        decimals: number of decimals; None for percent with one decimal.
    """
    return f"{_format(interval.low, decimals)}–{_format(interval.high, decimals)}"


@dataclass(frozen=True)
class HeadlineTile:
    """A headline number.

    Attributes:
        label: name of the measure.
        value: value in percent.
        interval: 95 % interval in percent.
        comparison: difference from the best baseline; "" without baselines.
    """

    label: str
    value: str
    interval: str
    comparison: str


def headline_tiles(evaluation: Evaluation) -> list[HeadlineTile]:
    """Return the most important numbers of the run.

    Args:
        evaluation: evaluation of the run.

    Returns:
        Overall accuracy, the mean of groups, and one tile per group that has classes.
    """
    tiles = []
    for measure, label in ACCURACIES.items():
        interval: Interval | None = getattr(evaluation.summary, measure)
        if interval is None:
            continue
        best = best_baseline(evaluation, measure)
        beside = f"{points_apart(interval.value, best[1].value)} the best baseline, {best[0]}" if best else ""
        tiles.append(HeadlineTile(label, format_percent(interval.value), format_interval(interval), beside))
    return tiles


@dataclass(frozen=True)
class ClassRow:
    """Numbers of one class.

    Attributes:
        name: name of the class.
        group: head, medium or tail; "" for a class without a group.
        train: number of training chips.
        test: number of evaluated chips.
        recall: recall in percent; None if not defined.
        precision: precision in percent; None if not defined.
    """

    name: str
    group: str
    train: int
    test: int
    recall: str | None
    precision: str | None


def order_by_training(evaluation: Evaluation) -> list[int]:
    """Order the classes from head to tail, and within a group by falling number of training chips.

    Args:
        evaluation: evaluation of the run.

    Returns:
        Class indices (C,); classes without a group come last.
    """
    rank = {index: number for number, group in enumerate(GROUPS) for index in evaluation.groups.get(group, [])}
    counts = evaluation.train_counts
    return sorted(range(len(counts)), key=lambda index: (rank.get(index, len(GROUPS)), -counts[index]))


def group_of_class(evaluation: Evaluation, index: int) -> str:
    """Return the group of a class, or "" for a class without one.

    Args:
        evaluation: evaluation of the run.
        index: index of the class.
    """
    return next((group for group in GROUPS if index in evaluation.groups.get(group, [])), "")


def class_rows(evaluation: Evaluation) -> list[ClassRow]:
    """Return the table of classes.

    Args:
        evaluation: evaluation of the run.

    Returns:
        One row per class, from head to tail.
    """
    summary = evaluation.summary
    return [
        ClassRow(
            name=evaluation.classes[index],
            group=group_of_class(evaluation, index),
            train=evaluation.train_counts[index],
            test=sum(evaluation.confusion[index]),
            recall=_optional_percent(summary.recall[index]),
            precision=_optional_percent(summary.precision[index]),
        )
        for index in order_by_training(evaluation)
    ]


def _optional_percent(value: float | None) -> str | None:
    return None if value is None else format_percent(value)


@dataclass(frozen=True)
class Mistake:
    """Chips of one class that were predicted as another class.

    Attributes:
        truth: name of the true class.
        predicted: name of the predicted class.
        count: number of chips.
        share: share of the chips of the true class, in percent.
    """

    truth: str
    predicted: str
    count: int
    share: str


def frequent_mistakes(evaluation: Evaluation, limit: int = 8) -> list[Mistake]:
    """Return the largest entries of the confusion matrix outside of its diagonal.

    Args:
        evaluation: evaluation of the run.
        limit: largest number of entries.

    Returns:
        The entries by falling number of chips.
    """
    matrix = np.array(evaluation.confusion)
    chips = matrix.sum(axis=1)
    np.fill_diagonal(matrix, 0)
    largest = np.argsort(-matrix, axis=None, kind="stable")[:limit]
    cells = [(int(row), int(column)) for row, column in zip(*np.unravel_index(largest, matrix.shape), strict=True)]
    names = evaluation.classes
    return [
        Mistake(names[row], names[column], int(matrix[row, column]), format_percent(matrix[row, column] / chips[row]))
        for row, column in cells
        if matrix[row, column]
    ]
