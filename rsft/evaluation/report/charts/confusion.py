"""The confusion matrix, in chips and in shares of the true class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from rsft.evaluation.report.charts.svg import GLYPH, clip, element, figure, line, on_shade, text
from rsft.evaluation.report.formatting import counted

LABELLED = 24
"""Up to this many classes the confusion matrix has names and numbers; beyond, shades only."""

LABEL_LENGTH = 18

Kind = Literal["chips", "shares"]


def confusion_matrix(
    confusion: NDArray[np.int64], classes: Sequence[str], bounds: Sequence[int], kind: Kind = "shares"
) -> Markup:
    """Rows are the truth; number and shade are chips, of the fullest cell, or the share of the true class.

    Args:
        confusion: (C, C), in the order to be drawn.
        classes: names in that order.
        bounds: rows before which a rule separates two groups.
    """
    n = len(classes)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shades = shares if kind == "shares" else confusion / max(1, confusion.max())
    labelled = n <= LABELLED
    size = float(np.clip(480 / n, 30, 74)) if labelled else max(6.0, 720 / n)
    names = [clip(name, LABEL_LENGTH) for name in classes] if labelled else []
    left = GLYPH * max(map(len, names), default=0) + (34 if labelled else 22)
    top = 0.72 * left + 12 if labelled else 22
    cells = []
    for row, column in np.argwhere(confusion):
        x, y, count = left + size * column, top + size * row, int(confusion[row, column])
        share = float(shares[row, column])
        number = str(count) if kind == "chips" else f"{100 * share:.0f}" if share >= 0.005 else "<1"
        words = f"{classes[row]} taken for {classes[column]}: {counted(count, 'chip')}, {share:.1%}"
        shade = float(shades[row, column])
        cells.append(_cell(x, y, size, shade, number, f"{words} of the class") if labelled else _box(x, y, size, shade))
    side = size * n
    rules = [line(left, top + size * b, left + side, top + size * b, class_="bound") for b in bounds]
    rules += [line(left + size * b, top, left + size * b, top + side, class_="bound") for b in bounds]
    right = GLYPH * 0.72 * max(map(len, names), default=0)
    return figure(
        left + side + max(4, right - size / 2),
        top + side + 4,
        "Confusion matrix, " + ("chips" if kind == "chips" else "in % of the true class"),
        f"{n} classes; {confusion.trace()} of {confusion.sum()} chips lie on the diagonal",
        element("rect", x=left, y=top, width=side, height=side, class_="frame"),
        *cells,
        *rules,
        *_names(names, left, top, size),
        text(left + side / 2, 12, "predicted", text_anchor="middle", class_="heading"),
        text(-(top + side / 2), 12, "truth", text_anchor="middle", class_="heading", transform="rotate(-90)"),
        class_="matrix labelled" if labelled else "matrix",
    )


def _cell(x: float, y: float, size: float, shade: float, number: str, words: str) -> Markup:
    digits = text(x + size / 2, y + size / 2 + 4, number, text_anchor="middle", class_=on_shade(shade))
    return element("g", element("title", words), _box(x, y, size, shade), digits)


def _box(x: float, y: float, size: float, shade: float) -> Markup:
    return element("rect", x=x, y=y, width=size, height=size, fill_opacity=round(shade, 3), class_="shade")


def _names(names: Sequence[str], left: float, top: float, size: float) -> list[Markup]:
    labels = []
    for index, name in enumerate(names):
        middle = size * (index + 0.5)
        labels.append(text(left - 8, top + middle + 4, name, text_anchor="end"))
        x, y = left + middle, top - 8
        labels.append(text(x, y, name, transform=f"rotate(-45 {x:.5g} {y:.5g})"))
    return labels
