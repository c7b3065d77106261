"""Draw accuracy against cost, and the runs that no other run beats at both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rsft.evaluation.report.charts.axes import CHART_WIDTH, Axes, as_percent, chart, heading, log_ticks, ticks
from rsft.evaluation.report.charts.svg import marker_path, svg_element, svg_line, svg_text
from rsft.metrics.bootstrap import Interval

HEIGHT = 300
SIMILAR_COSTS = 1.05
"""If all costs differ by less than this factor, the axis extends from half to twice the costs."""


@dataclass(frozen=True)
class ParetoPoint:
    """A run in the chart.

    Attributes:
        letter: letter of the run on the page.
        index: number of the run, which selects the shape of the marker.
        cost: cost of the run.
        accuracy: accuracy of the run, with its interval.
    """

    letter: str
    index: int
    cost: float
    accuracy: Interval


def pareto_front(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """Return the runs that no other run beats.

    A run is beaten by another that is at least as accurate for at most the same cost, and better at one of the two.

    Args:
        points: all runs.

    Returns:
        The runs by rising cost.
    """
    front: list[ParetoPoint] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.accuracy.value)):
        if not front or point.accuracy.value > front[-1].accuracy.value or _is_equal(point, front[-1]):
            front.append(point)
    return front


def _is_equal(one: ParetoPoint, other: ParetoPoint) -> bool:
    return one.cost == other.cost and one.accuracy.value == other.accuracy.value


def pareto_plot(points: Sequence[ParetoPoint], measure: str, cost: str) -> Markup:
    """Draw accuracy with its 95 % interval over cost; a dashed line joins the runs that no other run beats.

    Args:
        points: at least one run.
        measure: name of the accuracy.
        cost: name of the cost, on a logarithmic axis.

    Returns:
        The chart.
    """
    front = pareto_front(points)
    low, high = min(point.cost for point in points), max(point.cost for point in points)
    if high < SIMILAR_COSTS * low:
        low, high = low / 2, high * 2
    cost_ticks = log_ticks(low, high)
    percents = ticks(
        100 * min(point.accuracy.low for point in points), 100 * max(point.accuracy.high for point in points)
    )
    axes = Axes(
        left=40,
        right=CHART_WIDTH - 20,
        top=30,
        bottom=HEIGHT - 46,
        x_limits=(cost_ticks[0], cost_ticks[-1]),
        y_limits=(percents[0] / 100, percents[-1] / 100),
        log_x=True,
        x_inset=6,
    )
    return chart(
        HEIGHT,
        f"{measure}, in %, against {cost}",
        f"not beaten by another run: {', '.join(point.letter for point in front)}",
        heading(f"{measure}, in %"),
        *axes.horizontal_grid([percent / 100 for percent in percents], as_percent),
        *axes.x_labels(cost_ticks, _short_number, gap=18),
        axes.x_title(f"{cost} (log)", HEIGHT - 6),
        *_front_line(front, axes),
        *(_marker(point, axes) for point in points),
    )


def _front_line(front: Sequence[ParetoPoint], axes: Axes) -> Iterator[Markup]:
    """Draw a step line: the best accuracy for a cost."""
    path = f"M{axes.x.at(front[0].cost):.1f} {axes.y.at(front[0].accuracy.value):.1f}"
    for point in front[1:]:
        path += f"H{axes.x.at(point.cost):.1f}V{axes.y.at(point.accuracy.value):.1f}"
    yield svg_element("path", d=path, class_="front")


def _marker(point: ParetoPoint, axes: Axes) -> Markup:
    x, accuracy = axes.x.at(point.cost), point.accuracy
    y = axes.y.at(accuracy.value)
    interval = f"{accuracy.value:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%})"
    return svg_element(
        "g",
        svg_element("title", f"{point.letter}: {interval} for {point.cost:,.4g}"),
        svg_line(x, axes.y.at(accuracy.low), x, axes.y.at(accuracy.high)),
        svg_element("path", d=marker_path(point.index, x, y, 4.6)),
        svg_text(x + 9, y - 6, point.letter, class_="letter"),
        class_="whisker run" if point.index == 0 else "whisker",
    )


def _short_number(value: float) -> str:
    """Return a number with a metric prefix, such as "2k" or "30M"."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
