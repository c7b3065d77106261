"""Draw line charts over epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from rsft.evaluation.report.charts.axes import CHART_WIDTH, Axes, chart, heading, ticks
from rsft.evaluation.report.charts.svg import svg_element, svg_text

HEIGHT = 270
LABEL_GAP = 14
"""Smallest distance between two labels at the ends of the curves, in figure units."""


@dataclass(frozen=True)
class Curve:
    """A column of metrics.csv as a curve.

    Attributes:
        column: name of the column.
        label: text at the end of the curve.
        style: class in the style sheet.
    """

    column: str
    label: str
    style: str


LOSS_CURVES = (
    Curve("train_loss", "training", "muted"),
    Curve("meta_loss", "outer loop", "outer"),
    Curve("val_loss", "validation", "ink"),
)
ACCURACY_CURVES = (
    Curve("val_macro", "all classes", "muted"),
    Curve("val_head", "head", "head"),
    Curve("val_medium", "medium", "medium"),
    Curve("val_tail", "tail", "tail"),
)


def loss_curves(epochs: pd.DataFrame) -> Markup | None:
    """Draw training, outer-loop and validation loss.

    Args:
        epochs: the table metrics.csv.

    Returns:
        The chart; None if no loss is finite.
    """
    return _line_chart("Loss by epoch", epochs, LOSS_CURVES, factor=1, unit="", y_limits=None)


def accuracy_curves(epochs: pd.DataFrame) -> Markup | None:
    """Draw validation accuracy of head, medium, tail and all classes.

    Args:
        epochs: the table metrics.csv.

    Returns:
        The chart; None if no accuracy is finite.
    """
    title = "Validation accuracy by epoch, in %"
    return _line_chart(title, epochs, ACCURACY_CURVES, factor=100, unit=" %", y_limits=(0, 100))


def _line_chart(
    title: str,
    epochs: pd.DataFrame,
    curves: tuple[Curve, ...],
    factor: float,
    unit: str,
    y_limits: tuple[float, float] | None,
) -> Markup | None:
    x = epochs["epoch"].to_numpy(float) + 1  # number of finished epochs
    series = {curve: epochs[curve.column].to_numpy(float) * factor for curve in curves}
    series = {curve: y for curve, y in series.items() if np.isfinite(y).any()}
    if not series:
        return None
    finite = np.concatenate([y[np.isfinite(y)] for y in series.values()])
    levels = ticks(*(y_limits or (min(0.0, finite.min()), finite.max())))
    axes = Axes(
        left=40,
        right=CHART_WIDTH - 84,
        top=26,
        bottom=HEIGHT - 40,
        x_limits=(x.min(), x.max()),
        y_limits=(levels[0], levels[-1]),
    )
    last_values = {curve: float(y[np.isfinite(y)][-1]) for curve, y in series.items()}
    summary = ", ".join(f"{curve.label} ends at {value:.3g}{unit}" for curve, value in last_values.items())
    return chart(
        HEIGHT,
        title,
        f"{len(x)} epochs; {summary}",
        heading(title),
        *axes.horizontal_grid(levels),
        *axes.x_labels(ticks(x.min(), x.max(), 6, whole=True), gap=18),
        axes.x_title("epoch", HEIGHT - 4),
        *(_curve(curve.style, axes.x.positions(x), axes.y.positions(y)) for curve, y in series.items()),
        *_end_labels(last_values, axes),
    )


def _curve(style: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> Markup:
    """Draw a line through the epochs that have a value, with a dot at the last one."""
    finite = np.flatnonzero(np.isfinite(y))
    path = "M" + "L".join(f"{x[i]:.1f} {y[i]:.1f}" for i in finite)
    last = finite[-1]
    dot = svg_element("circle", cx=float(x[last]), cy=float(y[last]), r=3.2, class_="dot")
    return svg_element("g", svg_element("path", d=path), dot, class_=f"curve {style}")


def _end_labels(last_values: Mapping[Curve, float], axes: Axes) -> list[Markup]:
    """Draw the names of the curves at their ends, and move names apart that would overlap."""
    curves = sorted(last_values, key=lambda curve: axes.y.at(last_values[curve]))
    ys = [axes.y.at(last_values[curve]) + 4 for curve in curves]
    for i in range(1, len(ys)):
        ys[i] = max(ys[i], ys[i - 1] + LABEL_GAP)
    ys[-1] = min(ys[-1], axes.bottom + 4)
    for i in reversed(range(len(ys) - 1)):
        ys[i] = min(ys[i], ys[i + 1] - LABEL_GAP)
    x = axes.right + 8
    return [svg_text(x, y, curve.label, class_=f"name {curve.style}") for curve, y in zip(curves, ys, strict=True)]
