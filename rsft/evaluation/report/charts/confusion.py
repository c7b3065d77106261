"""Draw the confusion matrix in numbers of chips or in shares of the true class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from rsft.evaluation.report.charts.svg import (
    CHARACTER_WIDTH,
    number_style,
    shorten,
    svg_element,
    svg_figure,
    svg_line,
    svg_text,
)
from rsft.evaluation.report.render import pluralize

MAX_LABELED_CLASSES = 24
"""Up to this number of classes, the matrix has names and numbers. With more, it only has shades."""

LABEL_LENGTH = 18
"""Largest number of characters of a class name."""

Unit = Literal["chips", "shares"]


def confusion_chart(
    confusion: NDArray[np.int64], classes: Sequence[str], bounds: Sequence[int], unit: Unit = "shares"
) -> Markup:
    """Draw a confusion matrix; rows are the true classes.

    Args:
        confusion: (C, C) numbers of chips, in the order of the chart.
        classes: names of the classes in the same order.
        bounds: rows above which a line separates two groups.
        unit: unit of the numbers and shades: chips (the largest number has the strongest shade), or shares of the true
            class.

    Returns:
        The chart.
    """
    n = len(classes)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shades = shares if unit == "shares" else confusion / max(1, confusion.max())
    labeled = n <= MAX_LABELED_CLASSES
    size = float(np.clip(480 / n, 30, 74)) if labeled else max(6.0, 720 / n)
    names = [shorten(name, LABEL_LENGTH) for name in classes] if labeled else []
    longest = CHARACTER_WIDTH * max(map(len, names), default=0)
    left = longest + (34 if labeled else 22)
    top = 0.72 * left + 12 if labeled else 22
    cells = []
    for row, column in np.argwhere(confusion):
        box = _box(left + size * column, top + size * row, size, float(shades[row, column]))
        if not labeled:
            cells.append(box)
            continue
        count, share = int(confusion[row, column]), float(shares[row, column])
        title = f"{classes[row]} predicted as {classes[column]}: {pluralize(count, 'chip')}, {share:.1%} of the class"
        number = str(count) if unit == "chips" else f"{100 * share:.0f}" if share >= 0.005 else "<1"
        x, y = left + size * (column + 0.5), top + size * (row + 0.5) + 4
        style = number_style(float(shades[row, column]))
        text = svg_text(x, y, number, text_anchor="middle", class_=style)
        cells.append(svg_element("g", svg_element("title", title), box, text))
    side = size * n
    lines = [svg_line(left, top + size * b, left + side, top + size * b, class_="bound") for b in bounds]
    lines += [svg_line(left + size * b, top, left + size * b, top + side, class_="bound") for b in bounds]
    return svg_figure(
        left + side + max(4, 0.72 * longest - size / 2),
        top + side + 4,
        "Confusion matrix, " + ("chips" if unit == "chips" else "in % of the true class"),
        f"{n} classes; {confusion.trace()} of {confusion.sum()} chips lie on the diagonal",
        svg_element("rect", x=left, y=top, width=side, height=side, class_="frame"),
        *cells,
        *lines,
        *_class_names(names, left, top, size),
        svg_text(left + side / 2, 12, "predicted", text_anchor="middle", class_="heading"),
        svg_text(-(top + side / 2), 12, "truth", text_anchor="middle", class_="heading", transform="rotate(-90)"),
        class_="matrix labeled" if labeled else "matrix",
    )


def _box(x: float, y: float, size: float, shade: float) -> Markup:
    return svg_element("rect", x=x, y=y, width=size, height=size, fill_opacity=round(shade, 3), class_="shade")


def _class_names(names: Sequence[str], left: float, top: float, size: float) -> list[Markup]:
    labels = []
    for index, name in enumerate(names):
        middle = size * (index + 0.5)
        labels.append(svg_text(left - 8, top + middle + 4, name, text_anchor="end"))
        x, y = left + middle, top - 8
        labels.append(svg_text(x, y, name, transform=f"rotate(-45 {x:.5g} {y:.5g})"))
    return labels
