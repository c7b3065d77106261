"""Draw values with their intervals on one axis, several per row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from rsft.evaluation.report.charts.axes import CHART_WIDTH, Axes, as_percent, chart
from rsft.evaluation.report.charts.svg import Content, marker_path, svg_element, svg_line, svg_text
from rsft.metrics.accuracy import AccuracySummary
from rsft.metrics.bootstrap import Interval

LEFT, RIGHT = 108, CHART_WIDTH - 14
STEP, ROW_GAP = 15, 16
"""Distance between two markers of a row, and the additional distance between two rows, in figure units."""

ACCURACY_LABELS = {"micro": "overall", "avg": "mean of groups", "head": "head", "medium": "medium", "tail": "tail"}
"""Labels of the accuracies that charts and tables compare, by attribute of `AccuracySummary`."""

IntervalRows = Mapping[str, Sequence[Interval | None]]


def accuracy_plot(methods: Mapping[str, AccuracySummary]) -> Markup:
    """Draw overall accuracy and accuracy by group of several methods or runs.

    Args:
        methods: summary of each method or run, by its name.

    Returns:
        The chart.
    """
    rows = {
        label: [getattr(summary, measure) for summary in methods.values()] for measure, label in ACCURACY_LABELS.items()
    }
    return interval_plot("Accuracy by group with 95 % intervals, in %", list(methods), rows)


def interval_plot(
    title: str, names: Sequence[str], rows: IntervalRows, targets: Sequence[float] | None = None, low: float = 0.0
) -> Markup:
    """Draw a marker for each value and a line for its 95 % interval. The first marker of a row is filled.

    Args:
        title: title of the chart.
        names: names of the markers in a row.
        rows: values of each row by label, one per name. None has no marker. A row without values is left out.
        targets: target of each marker in a row, drawn as a stroke.
        low: lower end of the axis; the upper end is 1.

    Returns:
        The chart.
    """
    legend, top = _legend(names)
    counts = [sum(interval is not None for interval in values) for values in rows.values()]
    y = top + 16.0
    bottom = y + STEP * sum(counts) + ROW_GAP * (sum(map(bool, counts)) - 1)
    axes = Axes(LEFT, RIGHT, top, bottom, x_limits=(low, 1))
    body: list[Markup] = []
    summary = []
    for label, values in rows.items():
        defined = [(index, interval) for index, interval in enumerate(values) if interval is not None]
        if not defined:
            continue
        body.append(svg_text(LEFT - 14, y + STEP * (len(defined) - 1) / 2 + 4, label, text_anchor="end"))
        for index, interval in defined:
            name, target = f"{label}, {names[index]}", targets[index] if targets else None
            body.append(_whisker(axes, index, y, name, interval, target))
            summary.append(f"{name}: {interval.value:.1%}")
            y += STEP
        y += ROW_GAP
    return chart(
        bottom + 26,
        title,
        "; ".join(summary),
        *legend,
        *axes.vertical_grid([low + step * (1 - low) / 5 for step in range(6)], as_percent),
        *body,
    )


def _whisker(axes: Axes, index: int, y: float, name: str, interval: Interval, target: float | None) -> Markup:
    description = f"{name}: {interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"
    lines: list[Content] = [svg_line(axes.x.at(interval.low), y, axes.x.at(interval.high), y)]
    if target is not None:
        lines.append(svg_line(axes.x.at(target), y - 6, axes.x.at(target), y + 6, class_="aim"))
    marker = _marker(index, axes.x.at(interval.value), y)
    return svg_element("g", svg_element("title", description), *lines, marker, class_=_style(index))


def _marker(index: int, x: float, y: float) -> Markup:
    return svg_element("path", d=marker_path(index, x, y, 4.4))


def _style(index: int) -> str:
    return "whisker run" if index == 0 else "whisker"


def _legend(names: Sequence[str]) -> tuple[list[Markup], float]:
    """Return the entries of the legend in as many lines as needed, and the y position of its end."""
    entries = list(_legend_entries(names))
    return [entry for entry, _ in entries], entries[-1][1] + 13


def _legend_entries(names: Sequence[str]) -> Iterator[tuple[Markup, float]]:
    x, y = 8.0, 13.0
    for index, name in enumerate(names):
        width = 9 + 6.6 * len(name) + 24
        if x > 8 and x + width > CHART_WIDTH + 12:
            x, y = 8.0, y + 18
        yield svg_element("g", _marker(index, x, y - 4), svg_text(x + 9, y, name), class_=_style(index)), y
        x += width
