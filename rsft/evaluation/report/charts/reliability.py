"""Whether chips of 90 % confidence are right nine times in ten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from rsft.evaluation.report.charts.svg import Axis, element, figure, line, marker, text, wilson
from rsft.evaluation.report.formatting import counted

WIDTH, LEFT, RIGHT, TOP, SIDE, STRIP = 460, 48, 14, 26, 300, 56
BINS = 15
_SCALE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Bin:
    """Chips of like confidence: their mean confidence, how many there are, and how many are right."""

    confidence: float
    chips: int
    hits: int


def reliability_bins(predictions: pd.DataFrame, classes: Sequence[str]) -> list[Bin]:
    """Bins of equal width, each closed at its upper end, without the empty ones: those of `ece` in metrics.json."""
    confidence = predictions[[f"p_{name}" for name in classes]].to_numpy(float).max(axis=1)
    hits = (predictions["predicted"] == predictions["class"]).to_numpy()
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    chosen = [place == index for index in np.unique(place)]
    return [Bin(float(confidence[own].mean()), int(own.sum()), int(hits[own].sum())) for own in chosen]


def reliability_diagram(bins: Sequence[Bin]) -> Markup:
    """Accuracy over confidence, with 95 % intervals (Wilson); below, the chips of each bin."""
    across = Axis(0, 1, LEFT, WIDTH - RIGHT)
    up = Axis(0, 1, TOP + SIDE, TOP)
    bottom = TOP + SIDE + 34 + STRIP
    chips = sum(found.chips for found in bins)
    gap = sum(abs(found.hits - found.confidence * found.chips) for found in bins) / chips
    return figure(
        WIDTH,
        bottom + 22,
        "Accuracy by confidence, in %",
        f"{counted(chips, 'chip')} in {counted(len(bins), 'bin')}; mean gap {gap:.1%}",
        text(0, 12, "accuracy by confidence, in %", class_="heading"),
        *(line(LEFT, up.at(value), WIDTH - RIGHT, up.at(value), class_="rule") for value in _SCALE),
        *(text(LEFT - 8, up.at(value) + 4, f"{100 * value:g}", text_anchor="end") for value in _SCALE),
        line(across.at(0), up.at(0), across.at(1), up.at(1), class_="ideal"),
        *(_point(found, across, up) for found in bins),
        *_strip(bins, across, bottom),
        *(text(across.at(value), bottom + 16, f"{100 * value:g}", text_anchor="middle") for value in _SCALE),
        class_="chart",
    )


def _point(found: Bin, across: Axis, up: Axis) -> Markup:
    x, share = across.at(found.confidence), found.hits / found.chips
    low, high = wilson(found.hits, found.chips)
    words = f"{found.confidence:.1%} sure, {share:.1%} right: {found.hits:,} of {counted(found.chips, 'chip')}"
    mark = element("path", d=marker(0, x, up.at(share), 4.4))
    return element("g", element("title", words), line(x, up.at(low), x, up.at(high)), mark, class_="whisker run")


def _strip(bins: Sequence[Bin], across: Axis, bottom: float) -> Iterator[Markup]:
    yield text(LEFT, bottom - STRIP - 8, "chips")
    most = max(found.chips for found in bins)
    for found in bins:
        start = (np.ceil(found.confidence * BINS) - 1) / BINS
        height = STRIP * found.chips / most
        x, width = across.at(max(0.0, start)), across.at(1 / BINS) - across.at(0)
        yield element("rect", x=x + 1, y=bottom - height, width=width - 2, height=height, class_="count")
    yield line(LEFT, bottom, WIDTH - RIGHT, bottom, class_="rule")
