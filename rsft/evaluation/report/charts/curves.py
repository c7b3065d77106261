"""Line charts by epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from rsft.evaluation.report.charts.svg import Axis, element, figure, line, text, ticks

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 40, 84, 26, 40
LABEL_GAP = 14  # units between the labels at the ends of the curves


@dataclass(frozen=True)
class Curve:
    """A column of metrics.csv: its label, and the style it has in assets/style."""

    column: str
    label: str
    style: str


LOSSES = (
    Curve("train_loss", "training", "muted"),
    Curve("meta_loss", "outer loop", "outer"),
    Curve("val_loss", "validation", "ink"),
)
ACCURACIES = (
    Curve("val_macro", "all classes", "muted"),
    Curve("val_head", "head", "head"),
    Curve("val_medium", "medium", "medium"),
    Curve("val_tail", "tail", "tail"),
)


def loss_curves(epochs: pd.DataFrame) -> Markup | None:
    """Training, outer-loop and validation loss; None where no value is finite."""
    return _chart("Loss by epoch", epochs, LOSSES, factor=1, unit="", span=None)


def accuracy_curves(epochs: pd.DataFrame) -> Markup | None:
    """Validation accuracy of head, medium and tail, and of all classes; None where no value is finite."""
    return _chart("Validation accuracy by epoch, in %", epochs, ACCURACIES, factor=100, unit=" %", span=(0, 100))


def _chart(
    title: str,
    epochs: pd.DataFrame,
    curves: tuple[Curve, ...],
    factor: float,
    unit: str,
    span: tuple[float, float] | None,
) -> Markup | None:
    x = epochs["epoch"].to_numpy(float) + 1  # epochs done
    found = {curve: epochs[curve.column].to_numpy(float) * factor for curve in curves}
    found = {curve: y for curve, y in found.items() if np.isfinite(y).any()}
    if not found:
        return None
    finite = np.concatenate([y[np.isfinite(y)] for y in found.values()])
    levels = ticks(*(span or (min(0.0, finite.min()), finite.max())))
    across = Axis(x.min(), x.max(), LEFT, WIDTH - RIGHT)
    up = Axis(levels[0], levels[-1], HEIGHT - BOTTOM, TOP)
    ends = {curve: float(y[np.isfinite(y)][-1]) for curve, y in found.items()}
    summary = ", ".join(f"{curve.label} ends at {end:.3g}{unit}" for curve, end in ends.items())
    return figure(
        WIDTH,
        HEIGHT,
        title,
        f"{len(x)} epochs; {summary}",
        text(0, 12, title, class_="heading"),
        *_grid(levels, up),
        *_epoch_labels(x, across),
        *(_curve(curve.style, across.place(x), up.place(y)) for curve, y in found.items()),
        *_end_labels(ends, up),
        class_="chart",
    )


def _grid(levels: list[float], up: Axis) -> list[Markup]:
    rules = [line(LEFT, up.at(level), WIDTH - RIGHT, up.at(level), class_="rule") for level in levels]
    labels = [text(LEFT - 8, up.at(level) + 4, f"{level:g}", text_anchor="end") for level in levels]
    return rules + labels


def _epoch_labels(x: NDArray[np.float64], across: Axis) -> list[Markup]:
    y = HEIGHT - BOTTOM + 18
    marks = [
        text(across.at(mark), y, f"{mark:g}", text_anchor="middle") for mark in ticks(x.min(), x.max(), 6, whole=True)
    ]
    return [*marks, text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "epoch", text_anchor="middle")]


def _curve(style: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> Markup:
    """A line through the epochs that have a value, with a dot at the last of them."""
    known = np.flatnonzero(np.isfinite(y))
    path = "M" + "L".join(f"{x[i]:.1f} {y[i]:.1f}" for i in known)
    last = known[-1]
    dot = element("circle", cx=float(x[last]), cy=float(y[last]), r=3.2, class_="dot")
    return element("g", element("path", d=path), dot, class_=f"curve {style}")


def _end_labels(ends: dict[Curve, float], up: Axis) -> list[Markup]:
    """The curves' names and last values at their ends, moved apart where they would overlap."""
    curves = sorted(ends, key=lambda curve: up.at(ends[curve]))
    y = [up.at(ends[curve]) + 4 for curve in curves]
    for i in range(1, len(y)):
        y[i] = max(y[i], y[i - 1] + LABEL_GAP)
    y[-1] = min(y[-1], HEIGHT - BOTTOM + 4)
    for i in reversed(range(len(y) - 1)):
        y[i] = min(y[i], y[i + 1] - LABEL_GAP)
    x = WIDTH - RIGHT + 8
    return [text(x, place, curve.label, class_=f"name {curve.style}") for curve, place in zip(curves, y, strict=True)]
