"""Values with their intervals on one scale, several to a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from rsft.evaluation.report.charts.svg import Content, element, figure, line, marker, text
from rsft.evaluation.report.schema import Interval, Summary

WIDTH, LEFT, RIGHT = 460, 108, 14
STEP, GAP = 15, 16  # between two marks of a row, and more between two rows
MEASURES = {"micro": "overall", "avg": "mean of groups", "head": "head", "medium": "medium", "tail": "tail"}
Rows = Mapping[str, Sequence[Interval | None]]


class _Axis(NamedTuple):
    """From `low` to 1."""

    low: float

    def x(self, value: float) -> float:
        return LEFT + (value - self.low) / (1 - self.low) * (WIDTH - LEFT - RIGHT)

    @property
    def ticks(self) -> list[float]:
        return [self.low + step * (1 - self.low) / 5 for step in range(6)]


def accuracy_plot(methods: Mapping[str, Summary]) -> Markup:
    """Accuracy overall and by group of several methods or runs."""
    rows = {label: [getattr(own, measure) for own in methods.values()] for measure, label in MEASURES.items()}
    return interval_plot("Accuracy by group with 95 % intervals, in %", list(methods), rows)


def interval_plot(
    title: str, names: Sequence[str], rows: Rows, aims: Sequence[float] | None = None, low: float = 0.0
) -> Markup:
    """A mark for each value and a line for its 95 % interval; the first is filled, the others are hollow.

    Args:
        names: of the marks of a row.
        rows: values by label, one a name; None has no mark, and a row without values is left out.
        aims: what each mark should reach, shown as a stroke.
        low: where the axis begins.
    """
    axis = _Axis(low)
    legend, top = _legend(names)
    body: list[Markup] = []
    summary = []
    y = top + 16.0
    for label, spreads in rows.items():
        found = [(place, spread) for place, spread in enumerate(spreads) if spread is not None]
        if not found:
            continue
        body.append(text(LEFT - 14, y + STEP * (len(found) - 1) / 2 + 4, label, text_anchor="end"))
        for place, spread in found:
            body.append(_whisker(axis, place, y, f"{label}, {names[place]}", spread, aims[place] if aims else None))
            summary.append(f"{label}, {names[place]}: {spread.value:.1%}")
            y += STEP
        y += GAP
    bottom = y - GAP
    return figure(
        WIDTH,
        bottom + 26,
        title,
        "; ".join(summary),
        *legend,
        *(line(axis.x(value), top, axis.x(value), bottom, class_="rule") for value in axis.ticks),
        *(text(axis.x(value), bottom + 16, f"{100 * value:g}", text_anchor="middle") for value in axis.ticks),
        *body,
        class_="chart",
    )


def _whisker(axis: _Axis, place: int, y: float, label: str, spread: Interval, aim: float | None) -> Markup:
    words = f"{label}: {spread.value:.1%} ({spread.low:.1%} to {spread.high:.1%})"
    parts: list[Content] = [line(axis.x(spread.low), y, axis.x(spread.high), y)]
    if aim is not None:
        parts.append(line(axis.x(aim), y - 6, axis.x(aim), y + 6, class_="aim"))
    return element("g", element("title", words), *parts, _mark(place, axis.x(spread.value), y), class_=_style(place))


def _mark(place: int, x: float, y: float) -> Markup:
    return element("path", d=marker(place, x, y, 4.4))


def _style(place: int) -> str:
    return "whisker run" if place == 0 else "whisker"


def _legend(names: Sequence[str]) -> tuple[list[Markup], float]:
    """Its entries, in as many lines as they need, and where it ends."""
    entries = list(_entries(names))
    return [entry for entry, _ in entries], entries[-1][1] + 13


def _entries(names: Sequence[str]) -> Iterator[tuple[Markup, float]]:
    x, y = 8.0, 13.0
    for place, name in enumerate(names):
        width = 9 + 6.6 * len(name) + 24
        if x > 8 and x + width > WIDTH + 12:
            x, y = 8.0, y + 18
        yield element("g", _mark(place, x, y - 4), text(x + 9, y, name), class_=_style(place)), y
        x += width
