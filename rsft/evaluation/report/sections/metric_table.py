"""Make the headline numbers, and the table of all measures of every method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rsft.evaluation.report.formatting import best_baseline, format_percent, pluralize, points_apart
from rsft.evaluation.schema import Evaluation
from rsft.metrics.accuracy import AccuracySummary
from rsft.metrics.bootstrap import Interval
from rsft.types import GROUPS


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


def measure_rows(evaluation: Evaluation) -> list[MeasureRow]:
    """Return every measure of every method.

    Args:
        evaluation: evaluation of the run.

    Returns:
        One row per measure. A measure that no method has, as in evaluations of older versions, is left out.
    """
    classes = {group: len(evaluation.groups.get(group, [])) for group in GROUPS}
    rows = [
        _row(evaluation, "Overall", "share of chips classified correctly", _with_interval("micro")),
        _row(evaluation, "Mean of groups", "of the groups with chips", _with_interval("avg")),
    ]
    for group in GROUPS:
        count = classes[group]
        note = f"mean recall of {pluralize(count, 'class', 'es')}" if count else "no class"
        rows.append(_row(evaluation, group.capitalize(), note, _with_interval(group)))
    log_loss = _row(evaluation, "Log loss", "in nats; lower is better", _with_interval("log_loss", 2), 2, lowest=True)
    return [
        *rows,
        _row(evaluation, "All classes", "mean recall (macro)", _with_interval("macro")),
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
    labels = {"micro": "Overall", "avg": "Mean of groups", "head": "Head", "medium": "Medium", "tail": "Tail"}
    tiles = []
    for measure, label in labels.items():
        interval: Interval | None = getattr(evaluation.summary, measure)
        if interval is None:
            continue
        best = best_baseline(evaluation, measure)
        beside = f"{points_apart(interval.value, best[1].value)} the best baseline" if best else ""
        tiles.append(HeadlineTile(label, format_percent(interval.value), format_interval(interval), beside))
    return tiles
