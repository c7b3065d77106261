"""Draw the reliability diagram, which compares the confidence of predictions with their accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from rsft.evaluation.report.charts.axes import CHART_WIDTH, Axes, as_percent, chart, heading
from rsft.evaluation.report.charts.proportions import wilson_interval
from rsft.evaluation.report.charts.svg import marker_path, svg_element, svg_line, svg_text
from rsft.evaluation.report.render import pluralize

BINS = 15
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
TOP, SIDE, HISTOGRAM_GAP, HISTOGRAM_HEIGHT = 26, 300, 34, 56


@dataclass(frozen=True)
class ReliabilityBin:
    """Chips of similar confidence.

    Attributes:
        confidence: mean confidence of the chips.
        chips: number of chips.
        hits: number of chips that are classified correctly.
    """

    confidence: float
    chips: int
    hits: int


def reliability_bins(predictions: pd.DataFrame, classes: Sequence[str]) -> list[ReliabilityBin]:
    """Group predictions into bins of equal width, as for `ece` in metrics.json. A bin contains its upper end.

    Args:
        predictions: the table predictions.parquet.
        classes: class names by index.

    Returns:
        The bins that contain chips, by rising confidence.
    """
    confidence = predictions[[f"p_{name}" for name in classes]].to_numpy(float).max(axis=1)
    hits = (predictions["predicted"] == predictions["class"]).to_numpy()
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    masks = [bins == index for index in np.unique(bins)]
    return [ReliabilityBin(float(confidence[mask].mean()), int(mask.sum()), int(hits[mask].sum())) for mask in masks]


def reliability_diagram(bins: Sequence[ReliabilityBin]) -> Markup:
    """Draw accuracy over confidence with 95 % intervals (Wilson), and below it a histogram of the chips.

    Args:
        bins: at least one bin.

    Returns:
        The chart.
    """
    axes = Axes(48, CHART_WIDTH - 14, TOP, TOP + SIDE)
    histogram = Axes(axes.left, axes.right, axes.bottom + HISTOGRAM_GAP, axes.bottom + HISTOGRAM_GAP + HISTOGRAM_HEIGHT)
    chips = sum(bin_.chips for bin_ in bins)
    gap = sum(abs(bin_.hits - bin_.confidence * bin_.chips) for bin_ in bins) / chips
    return chart(
        histogram.bottom + 22,
        "Accuracy by confidence, in %",
        f"{pluralize(chips, 'chip')} in {pluralize(len(bins), 'bin')}; mean gap {gap:.1%}",
        heading("accuracy by confidence, in %"),
        *axes.horizontal_grid(TICKS, as_percent),
        svg_line(axes.x.at(0), axes.y.at(0), axes.x.at(1), axes.y.at(1), class_="ideal"),
        *(_point(bin_, axes) for bin_ in bins),
        *_histogram(bins, histogram),
        *histogram.x_labels(TICKS, as_percent),
    )


def _point(bin_: ReliabilityBin, axes: Axes) -> Markup:
    x, accuracy = axes.x.at(bin_.confidence), bin_.hits / bin_.chips
    low, high = wilson_interval(bin_.hits, bin_.chips)
    counts = f"{bin_.hits:,} of {pluralize(bin_.chips, 'chip')}"
    title = svg_element("title", f"confidence {bin_.confidence:.1%}, accuracy {accuracy:.1%}: {counts}")
    marker = svg_element("path", d=marker_path(0, x, axes.y.at(accuracy), 4.4))
    return svg_element("g", title, svg_line(x, axes.y.at(low), x, axes.y.at(high)), marker, class_="whisker run")


def _histogram(bins: Sequence[ReliabilityBin], axes: Axes) -> Iterator[Markup]:
    yield svg_text(axes.left, axes.top - 8, "chips")
    most = max(bin_.chips for bin_ in bins)
    width = axes.x.at(1 / BINS) - axes.x.at(0)
    for bin_ in bins:
        start = (np.ceil(bin_.confidence * BINS) - 1) / BINS
        x, height = axes.x.at(max(0.0, start)), HISTOGRAM_HEIGHT * bin_.chips / most
        yield svg_element("rect", x=x + 1, y=axes.bottom - height, width=width - 2, height=height, class_="count")
    yield svg_line(axes.left, axes.bottom, axes.right, axes.bottom, class_="rule")
