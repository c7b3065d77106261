"""Draw training chips and recall of every class side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from rsft.evaluation.report.charts.axes import Axes, as_percent, chart, heading, log_ticks
from rsft.evaluation.report.charts.proportions import wilson_interval
from rsft.evaluation.report.charts.svg import Content, shorten, svg_element, svg_line, svg_text
from rsft.evaluation.report.metric_tables import group_of_class, order_by_training
from rsft.evaluation.schema import Evaluation

LEFT, TOP = 104, 40
COUNTS_RANGE, RECALL_RANGE = (LEFT, 236), (262, 446)
"""Left and right edge of each half of the chart in figure units."""

MAX_NAMED_CLASSES = 40
"""Up to this number of classes, every row has a name. With more, rows are thin and only groups have names."""


def class_bars(evaluation: Evaluation) -> Markup:
    """Draw one row per class, from head to tail.

    A row has the training chips on a logarithmic axis and the recall with its 95 % interval (Wilson).

    Args:
        evaluation: evaluation of the run.

    Returns:
        The chart.
    """
    order = order_by_training(evaluation)
    is_named = len(order) <= MAX_NAMED_CLASSES
    step = 20.0 if is_named else max(4.0, 560 / len(order))
    bottom = TOP + step * len(order)
    most = max(evaluation.train_counts)
    limit = max(10, most)
    counts = Axes(*COUNTS_RANGE, TOP - 4, bottom + 2, x_limits=(0.8, limit), log_x=True)
    recall = Axes(*RECALL_RANGE, TOP - 4, bottom + 2)
    groups = [group_of_class(evaluation, index) for index in order]
    rows = [_row(evaluation, index, TOP + step * row, step, counts, recall) for row, index in enumerate(order)]
    return chart(
        bottom + 22,
        "Training chips and recall by class",
        f"{len(order)} classes with {min(evaluation.train_counts):,} to {most:,} training chips",
        heading("training chips (log)", COUNTS_RANGE[0]),
        heading("recall, in %", RECALL_RANGE[0]),
        *counts.vertical_grid([value for value in log_ticks(1, limit) if value <= limit], gap=14),
        *recall.vertical_grid([0, 0.25, 0.5, 0.75, 1], as_percent, gap=14),
        *(svg_element("g", *row, class_=f"bars {group}") for row, group in zip(rows, groups, strict=True)),
        *(_class_names(evaluation, order, step) if is_named else _group_names(groups, step)),
    )


def _row(evaluation: Evaluation, index: int, y: float, step: float, counts: Axes, recall: Axes) -> list[Content]:
    """Return the two bars of a class."""
    name, train_chips = evaluation.classes[index], evaluation.train_counts[index]
    chips, hits = sum(evaluation.confusion[index]), evaluation.confusion[index][index]
    result = f"recall {hits / chips:.1%} of {chips:,} chips" if chips else "no evaluated chips"
    elements: list[Content] = [svg_element("title", f"{name}: {train_chips:,} training chips; {result}")]
    top, height = y + 0.14 * step, 0.72 * step
    if train_chips:
        elements.append(_bar(counts, train_chips, top, height))
    if chips:
        low, high = wilson_interval(hits, chips)
        middle = y + step / 2
        style = "spread" if step > 10 else "spread thin"
        elements.append(_bar(recall, hits / chips, top, height))
        elements.append(svg_line(recall.x.at(low), middle, recall.x.at(high), middle, class_=style))
    return elements


def _bar(axes: Axes, value: float, top: float, height: float) -> Markup:
    return svg_element("rect", x=axes.left, y=top, width=axes.x.at(value) - axes.left, height=height)


def _class_names(evaluation: Evaluation, order: Sequence[int], step: float) -> Iterator[Markup]:
    for row, index in enumerate(order):
        name = shorten(evaluation.classes[index], 15)
        yield svg_text(LEFT - 8, TOP + step * (row + 0.5) + 4, name, text_anchor="end")


def _group_names(groups: Sequence[str], step: float) -> Iterator[Markup]:
    for group in dict.fromkeys(groups):
        rows = [row for row, name in enumerate(groups) if name == group]
        middle = TOP + step * (rows[0] + rows[-1] + 1) / 2
        yield svg_text(LEFT - 8, middle + 4, group or "no group", text_anchor="end")
        top, bottom = TOP + step * rows[0] + 1, TOP + step * (rows[-1] + 1) - 1
        yield svg_line(LEFT - 4, top, LEFT - 4, bottom, class_="bracket")
