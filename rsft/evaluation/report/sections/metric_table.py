"""The measures of every method: headline tiles and the table of groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rsft.evaluation.report.formatting import better_baseline, counted, difference, percent
from rsft.evaluation.report.schema import Evaluation, Interval, Summary
from rsft.types import GROUPS


@dataclass(frozen=True)
class Cell:
    """A value in %, what stands under it, and whether it is the row's best."""

    value: str
    under: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A measure: its name, what it is, and a cell a method (None: not defined)."""

    label: str
    note: str
    cells: list[Cell | None]


def measure_rows(evaluation: Evaluation) -> list[Row]:
    """Every measure of every method."""
    classes = {group: len(evaluation.groups.get(group, [])) for group in GROUPS}
    rows = [
        _row(evaluation, "Overall", "chips that are right", _spread("micro")),
        _row(evaluation, "Mean of groups", "of those that exist", _spread("avg")),
    ]
    for group in GROUPS:
        number = classes[group]
        note = f"mean of {counted(number, 'class', 'es')}" if number else "no class"
        rows.append(_row(evaluation, group.capitalize(), note, _spread(group)))
    return [
        *rows,
        _row(evaluation, "All classes", "mean recall (macro)", _spread("macro")),
        _row(evaluation, "Macro F1", "mean of classes", _spread("macro_f1")),
        _row(evaluation, "Harmonic mean", "of class recall", lambda summary: (summary.harmonic, "")),
        _row(evaluation, "Worst class", "lowest recall", lambda summary: (summary.worst.value, summary.worst.name)),
        *_known(evaluation, "Top 2", "class is among two guesses", _spread("top2")),
        *_known(evaluation, "Log-loss", "in nats; lower is better", _spread("log_loss", "{:.2f}"), "{:.2f}", True),
        _row(evaluation, "Calibration error", "ECE; lower is better", _calibration, lowest=True),
    ]


Pick = Callable[[Summary], tuple[float, str] | None]


def _spread(measure: str, form: str = "") -> Pick:
    def pick(summary: Summary) -> tuple[float, str] | None:
        spread: Interval | None = getattr(summary, measure)
        return (spread.value, interval(spread, form)) if spread else None

    return pick


def _calibration(summary: Summary) -> tuple[float, str] | None:
    return None if summary.ece is None else (summary.ece, "")


def _row(evaluation: Evaluation, label: str, note: str, pick: Pick, form: str = "", lowest: bool = False) -> Row:
    found = [pick(summary) for summary in evaluation.methods.values()]
    values = [item[0] for item in found if item]
    best = (min if lowest else max)(values) if len(values) > 1 else None
    cells = [item and Cell(_written(item[0], form), item[1], item[0] == best) for item in found]
    return Row(label, note, cells)


def _known(
    evaluation: Evaluation, label: str, note: str, pick: Pick, form: str = "", lowest: bool = False
) -> list[Row]:
    """A row that older runs do not have."""
    row = _row(evaluation, label, note, pick, form, lowest)
    return [row] if any(row.cells) else []


def _written(value: float, form: str) -> str:
    return form.format(value) if form else percent(value)


def interval(spread: Interval, form: str = "") -> str:
    """ "84.1–87.3": in %, or as `form` says."""
    return f"{_written(spread.low, form)}–{_written(spread.high, form)}"


@dataclass(frozen=True)
class Tile:
    """A headline number, with its interval and its distance from the better baseline."""

    label: str
    value: str
    interval: str
    beside: str


def tiles(evaluation: Evaluation) -> list[Tile]:
    """The run's own numbers that matter most; a group that does not exist has no tile."""
    labels = {"micro": "Overall", "avg": "Mean of groups", "head": "Head", "medium": "Medium", "tail": "Tail"}
    found = []
    for measure, label in labels.items():
        spread: Interval | None = getattr(evaluation.summary, measure)
        if spread is None:
            continue
        best = better_baseline(evaluation, measure)
        beside = f"{difference(spread.value, best[1].value)} the better baseline" if best else ""
        found.append(Tile(label, percent(spread.value), interval(spread), beside))
    return found
