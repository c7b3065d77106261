"""Training chips and recall of every class, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from rsft.evaluation.report.charts.svg import Axis, Content, clip, element, figure, line, log_ticks, text, wilson
from rsft.evaluation.report.class_tables import group_of, order_by_training
from rsft.evaluation.report.schema import Evaluation

WIDTH, LEFT, TOP = 460, 104, 40
COUNTS, RECALL = (LEFT, 236), (262, 446)  # from where to where the two halves go
NAMED = 40
"""Up to this many classes a row has a name; beyond, rows are thin and the groups are named."""


def class_bars(evaluation: Evaluation) -> Markup:
    """A row a class, from head to tail: training chips on a log axis, recall with its 95 % interval (Wilson)."""
    order = order_by_training(evaluation)
    named = len(order) <= NAMED
    step = 20.0 if named else max(4.0, 560 / len(order))
    bottom = TOP + step * len(order)
    most = max(evaluation.train_counts)
    counts, recall = Axis(0.8, max(10, most), *COUNTS, log=True), Axis(0, 1, *RECALL)
    groups = [group_of(evaluation, index) for index in order]
    return figure(
        WIDTH,
        bottom + 22,
        "Training chips and recall by class",
        f"{len(order)} classes with {min(evaluation.train_counts):,} to {most:,} training chips",
        text(COUNTS[0], 12, "training chips (log)", class_="heading"),
        text(RECALL[0], 12, "recall, in %", class_="heading"),
        *_axis(counts, [value for value in log_ticks(1, max(10, most)) if value <= max(10, most)], bottom),
        *_axis(recall, [0, 0.25, 0.5, 0.75, 1], bottom, factor=100),
        *(
            element("g", *_row(evaluation, index, TOP + step * row, step, counts, recall), class_=f"bars {groups[row]}")
            for row, index in enumerate(order)
        ),
        *(_names(evaluation, order, step) if named else _group_names(groups, step)),
        class_="chart",
    )


def _axis(axis: Axis, values: Sequence[float], bottom: float, factor: float = 1) -> Iterator[Markup]:
    for value in values:
        yield line(axis.at(value), TOP - 4, axis.at(value), bottom + 2, class_="rule")
        yield text(axis.at(value), bottom + 16, f"{value * factor:g}", text_anchor="middle")


def _row(evaluation: Evaluation, index: int, y: float, step: float, counts: Axis, recall: Axis) -> Iterator[Content]:
    """The two bars of a class, thinner than its row."""
    name, trained = evaluation.classes[index], evaluation.train_counts[index]
    chips, hits = sum(evaluation.confusion[index]), evaluation.confusion[index][index]
    spread = "spread" if step > 10 else "spread thin"
    found = f"{hits / chips:.1%} of {chips:,} found" if chips else "none evaluated"
    yield element("title", f"{name}: {trained:,} training chips; {found}")
    top, height = y + 0.14 * step, 0.72 * step
    if trained:
        yield element("rect", x=counts.start, y=top, width=counts.at(trained) - counts.start, height=height)
    if chips:
        low, high = wilson(hits, chips)
        middle = y + step / 2
        yield element("rect", x=recall.start, y=top, width=recall.at(hits / chips) - recall.start, height=height)
        yield line(recall.at(low), middle, recall.at(high), middle, class_=spread)


def _names(evaluation: Evaluation, order: Sequence[int], step: float) -> Iterator[Markup]:
    for row, index in enumerate(order):
        name = clip(evaluation.classes[index], 15)
        yield text(LEFT - 8, TOP + step * (row + 0.5) + 4, name, text_anchor="end")


def _group_names(groups: Sequence[str], step: float) -> Iterator[Markup]:
    for group in dict.fromkeys(groups):
        rows = [row for row, own in enumerate(groups) if own == group]
        middle = TOP + step * (rows[0] + rows[-1] + 1) / 2
        yield text(LEFT - 8, middle + 4, group or "no group", text_anchor="end")
        yield line(LEFT - 4, TOP + step * rows[0] + 1, LEFT - 4, TOP + step * (rows[-1] + 1) - 1, class_="bracket")
