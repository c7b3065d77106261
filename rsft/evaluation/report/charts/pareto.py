"""Accuracy against cost: which runs no other run beats at both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rsft.evaluation.report.charts.svg import Axis, element, figure, line, log_ticks, marker, text, ticks
from rsft.evaluation.report.schema import Interval

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 300, 40, 20, 30, 46
LINEAR = 1.05
"""Costs that differ by less than this factor are no axis; they stand in the middle of one."""


@dataclass(frozen=True)
class Point:
    """A run: its letter, its place in the order of runs, its cost and its accuracy."""

    letter: str
    place: int
    cost: float
    accuracy: Interval


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The runs that none beats: no other is at least as good for at most the cost, and better at one; by cost."""
    front: list[Point] = []
    for point in sorted(points, key=lambda own: (own.cost, -own.accuracy.value)):
        if not front or point.accuracy.value > front[-1].accuracy.value or _equal(point, front[-1]):
            front.append(point)
    return front


def _equal(one: Point, other: Point) -> bool:
    return one.cost == other.cost and one.accuracy.value == other.accuracy.value


def pareto_plot(points: Sequence[Point], measure: str, cost: str) -> Markup:
    """Accuracy with its 95 % interval over cost on a log axis; a line joins the runs that no other beats.

    Args:
        measure, cost: names of the axes.
    """
    front = pareto_front(points)
    low, high = min(point.cost for point in points), max(point.cost for point in points)
    if high < LINEAR * low:
        low, high = low / 2, high * 2
    marks = log_ticks(low, high)
    levels = ticks(
        100 * min(point.accuracy.low for point in points), 100 * max(point.accuracy.high for point in points)
    )
    across = Axis(marks[0], marks[-1], LEFT + 6, WIDTH - RIGHT, log=True)
    up = Axis(levels[0] / 100, levels[-1] / 100, HEIGHT - BOTTOM, TOP)
    return figure(
        WIDTH,
        HEIGHT,
        f"{measure}, in %, against {cost}",
        f"not beaten by another run: {', '.join(point.letter for point in front)}",
        text(0, 12, f"{measure}, in %", class_="heading"),
        *(line(LEFT, up.at(level / 100), WIDTH - RIGHT, up.at(level / 100), class_="rule") for level in levels),
        *(text(LEFT - 8, up.at(level / 100) + 4, f"{level:g}", text_anchor="end") for level in levels),
        *(text(across.at(mark), HEIGHT - BOTTOM + 18, _short(mark), text_anchor="middle") for mark in marks),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, f"{cost} (log)", text_anchor="middle"),
        *_stairs(front, across, up),
        *(_mark(point, across, up) for point in points),
        class_="chart",
    )


def _stairs(front: Sequence[Point], across: Axis, up: Axis) -> Iterator[Markup]:
    """What accuracy so much cost buys."""
    path = f"M{across.at(front[0].cost):.1f} {up.at(front[0].accuracy.value):.1f}"
    for point in front[1:]:
        path += f"H{across.at(point.cost):.1f}V{up.at(point.accuracy.value):.1f}"
    yield element("path", d=path, class_="front")


def _mark(point: Point, across: Axis, up: Axis) -> Markup:
    x, spread = across.at(point.cost), point.accuracy
    y = up.at(spread.value)
    words = f"{point.letter}: {spread.value:.1%} ({spread.low:.1%} to {spread.high:.1%}) for {point.cost:,.4g}"
    return element(
        "g",
        element("title", words),
        line(x, up.at(spread.low), x, up.at(spread.high)),
        element("path", d=marker(point.place, x, y, 4.6)),
        text(x + 9, y - 6, point.letter, class_="letter"),
        class_="whisker run" if point.place == 0 else "whisker",
    )


def _short(value: float) -> str:
    """ "2k", "30M"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
