"""Draw the axes of a chart, and convert values to figure units."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from rsft.evaluation.report.charts.svg import Content, svg_figure, svg_line, svg_text

CHART_WIDTH = 460
"""Width of every chart in figure units."""

TickFormat = Callable[[float], str]


@dataclass(frozen=True)
class AxisScale:
    """A linear or logarithmic scale that converts values to figure units.

    Attributes:
        low: lowest value.
        high: highest value.
        start: position of the lowest value in figure units.
        stop: position of the highest value in figure units.
        log: whether the scale is logarithmic.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def positions(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert values to figure units.

        Args:
            values: values of any shape.

        Returns:
            Positions of the same shape; `stop` for all values if `low` and `high` are equal.
        """
        low, high = (math.log(end) if self.log else end for end in (self.low, self.high))
        shares = (np.log(values) if self.log else values) - low
        span = high - low
        return self.start + (shares / span if span else np.ones_like(shares)) * (self.stop - self.start)

    def at(self, value: float) -> float:
        """Convert one value to figure units."""
        return float(self.positions(np.array(value, float)))


@dataclass(frozen=True)
class Axes:
    """The plot area of a chart.

    Attributes:
        left: left edge in figure units.
        right: right edge in figure units.
        top: top edge in figure units; y grows downward.
        bottom: bottom edge in figure units.
        x_limits: lowest and highest value of the x axis.
        y_limits: lowest and highest value of the y axis.
        log_x: whether the x axis is logarithmic.
        x_inset: distance of the lowest x value from the left edge.
    """

    left: float
    right: float
    top: float
    bottom: float
    x_limits: tuple[float, float] = (0.0, 1.0)
    y_limits: tuple[float, float] = (0.0, 1.0)
    log_x: bool = False
    x_inset: float = 0.0

    @cached_property
    def x(self) -> AxisScale:
        """Scale of the x axis."""
        return AxisScale(*self.x_limits, self.left + self.x_inset, self.right, log=self.log_x)

    @cached_property
    def y(self) -> AxisScale:
        """Scale of the y axis, from the bottom edge to the top edge."""
        return AxisScale(*self.y_limits, self.bottom, self.top)

    def horizontal_grid(self, values: Sequence[float], text: TickFormat = "{:g}".format) -> list[Markup]:
        """Draw a horizontal line at each y value, and the value left of it.

        Args:
            values: y values of the lines.
            text: formats a value.

        Returns:
            All lines, then all labels.
        """
        ys = [self.y.at(value) for value in values]
        lines = [svg_line(self.left, y, self.right, y, class_="rule") for y in ys]
        labels = [
            svg_text(self.left - 8, y + 4, text(value), text_anchor="end") for y, value in zip(ys, values, strict=True)
        ]
        return lines + labels

    def vertical_grid(self, values: Sequence[float], text: TickFormat = "{:g}".format, gap: float = 16) -> list[Markup]:
        """Draw a vertical line at each x value, and the value below it.

        Args:
            values: x values of the lines.
            text: formats a value.
            gap: distance of the text's baseline from the bottom edge.

        Returns:
            All lines, then all labels.
        """
        xs = [self.x.at(value) for value in values]
        lines = [svg_line(x, self.top, x, self.bottom, class_="rule") for x in xs]
        return lines + self.x_labels(values, text, gap)

    def x_labels(self, values: Iterable[float], text: TickFormat = "{:g}".format, gap: float = 16) -> list[Markup]:
        """Draw x values below the plot area.

        Args:
            values: x values of the labels.
            text: formats a value.
            gap: distance of the text's baseline from the bottom edge.

        Returns:
            One label per value.
        """
        y = self.bottom + gap
        return [svg_text(self.x.at(value), y, text(value), text_anchor="middle") for value in values]

    def x_title(self, title: str, y: float) -> Markup:
        """Draw the title of the x axis below the middle of the plot area.

        Args:
            title: the title.
            y: position of the baseline.
        """
        return svg_text((self.left + self.right) / 2, y, title, text_anchor="middle")


def chart(height: float, title: str, summary: str, *content: Content) -> Markup:
    """Return a figure with the width of all charts.

    Args:
        height: height in figure units.
        title: title of the figure.
        summary: description of what the figure shows.
        content: elements of the figure.
    """
    return svg_figure(CHART_WIDTH, height, title, summary, *content, class_="chart")


def heading(title: str, x: float = 0) -> Markup:
    """Return a heading at the top of a chart.

    Args:
        title: the text.
        x: left end in figure units.
    """
    return svg_text(x, 12, title, class_="heading")


def as_percent(value: float) -> str:
    """Return a value in 0-1 as a tick label in percent, without the percent sign."""
    return f"{100 * value:g}"


def ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    """Return round numbers that cover a range.

    Args:
        low: lower end of the range.
        high: upper end of the range.
        count: approximate number of ticks.
        whole: whether to return only whole numbers inside the range.

    Returns:
        Rising numbers with equal steps. Unless `whole`, the first is at most `low` and the last at least `high`.
    """
    span = (high - low) or 1.0
    size = 10.0 ** math.floor(math.log10(span / count))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= count)
    if whole:
        step = max(1.0, step)
        return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [step * k for k in range(math.floor(low / step), math.ceil(high / step) + 1)]


def log_ticks(low: float, high: float, limit: int = 7) -> list[float]:
    """Return round numbers that cover a range on a logarithmic axis.

    Args:
        low: lower end of the range, above 0.
        high: upper end of the range.
        limit: largest number of ticks; with more, only powers of ten are returned.

    Returns:
        Rising numbers 1, 2, 5, 10 and so on, or powers of ten. The first is at most `low` and the last at least `high`.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        steps = [factor * 10.0**power for power in powers for factor in factors]
        first = max(index for index, step in enumerate(steps) if step <= low)
        last = next(index for index, step in enumerate(steps) if step >= high)
        if last - first < limit:
            break
    return steps[first : last + 1]
