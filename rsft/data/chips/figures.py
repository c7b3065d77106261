"""Figures of a chip store: class distribution and contact sheets. The same store gives the same bytes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from rsft.data.imagery.reader import read_chip
from rsft.types import GROUPS, Bytes, Pixels

SHEET_COLUMNS, SHEET_ROWS = 8, 6
"""Chips per row and per column of a contact sheet."""
THUMB, GAP = 96, 4
"""Side of a thumbnail and space between thumbnails, in pixels."""

_COLORS = dict(zip(GROUPS, ("#2b6cb0", "#dd8a2b", "#b83280"), strict=True))
_LABEL_SIZE = 8  # in points
_MAX_NAMED_CLASSES = 40  # more bars leave no room for class names


def render_class_figure(title: str, counts: Mapping[str, Mapping[str, int]], group_of: Mapping[str, str]) -> bytes:
    """Draw the number of chips per class on a logarithmic axis, largest class first, colored by group.

    Args:
        title: name of the data set.
        counts: number of chips by split and class; the first split with chips is drawn.
        group_of: group (head, medium or tail) by class.

    Returns:
        Content of a PNG file.
    """
    split = next(split for split in counts if any(counts[split].values()))
    names = sorted(counts[split], key=lambda name: -counts[split][name])
    values = [counts[split][name] for name in names]
    named = len(names) <= _MAX_NAMED_CLASSES
    figure = Figure(figsize=(7, 1.4 + 0.25 * len(names)) if named else (8, 4), dpi=120)
    axes = figure.add_subplot()
    colors = [_COLORS[group_of[name]] for name in names]
    (_draw_bars if named else _draw_profile)(axes, names, values, colors)
    axes.set_title(f"{title}: {sum(values):,} {split} chips, {len(names):,} classes", fontsize=10)
    for group in (group for group in GROUPS if group in set(group_of.values())):
        axes.bar(0, 0, color=_COLORS[group], label=group)
    figure.legend(frameon=False, loc="lower right", ncols=len(GROUPS), fontsize=_LABEL_SIZE)  # "best" may hide bars
    with io.BytesIO() as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # class names in scripts that the font lacks
        _set_margins(figure, axes, names if named else ["1,000,000"])
        figure.savefig(file, format="png", metadata={"Software": None})
        return file.getvalue()


def _draw_bars(axes: Axes, names: Sequence[str], values: Sequence[int], colors: Sequence[str]) -> None:
    bars = axes.barh(range(len(names)), values, color=colors)
    axes.bar_label(bars, [f"{value:,}" for value in values], padding=3, fontsize=_LABEL_SIZE)
    axes.set_yticks(range(len(names)), names, fontsize=_LABEL_SIZE, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(0.8, 3 * max(values))
    axes.set_xlabel("chips", loc="left")
    axes.minorticks_off()


def _draw_profile(axes: Axes, names: Sequence[str], values: Sequence[int], colors: Sequence[str]) -> None:
    axes.bar(range(len(names)), values, width=1, color=colors)
    axes.set_yscale("log")
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel("class, by number of chips", loc="left")
    axes.set_ylabel("chips")


def _set_margins(figure: Figure, axes: Axes, labels: Sequence[str]) -> None:
    """Leave room for title, axes and labels. The layout engines of matplotlib draw the figure twice."""
    canvas: Any = FigureCanvasAgg(figure)  # its renderer has no types
    renderer = canvas.get_renderer()
    font = FontProperties(size=_LABEL_SIZE)
    widest = max(renderer.get_text_width_height_descent(label, font, ismath=False)[0] for label in labels)
    width, height = figure.bbox.width, figure.bbox.height
    axis = 0 if axes.get_ylabel() == "" else 30
    figure.subplots_adjust(
        left=min(0.6, (widest + axis + 20) / width), right=1 - 16 / width, bottom=62 / height, top=1 - 38 / height
    )


def select_sheet_chips(count: int) -> list[int]:
    """Select the chips of a contact sheet.

    Args:
        count: number of chips of the class.

    Returns:
        Ascending indices: all chips, or evenly spaced ones if there are more than fit on one sheet.
    """
    page = min(count, SHEET_COLUMNS * SHEET_ROWS)
    return [number * count // page for number in range(page)]


def render_contact_sheet(paths: Sequence[Path]) -> bytes:
    """Draw thumbnails of chips on one sheet.

    Args:
        paths: image files of at most SHEET_COLUMNS x SHEET_ROWS chips.

    Returns:
        Content of a PNG file.
    """
    columns = min(SHEET_COLUMNS, len(paths))
    step = THUMB + GAP
    sheet = np.full((GAP + step * -(-len(paths) // columns), GAP + step * columns, 3), 255, np.uint8)
    for index, path in enumerate(paths):
        top, left = (GAP + step * number for number in divmod(index, columns))
        sheet[top : top + THUMB, left : left + THUMB] = render_thumbnail(read_chip(path))
    return cv2.imencode(".png", sheet)[1].tobytes()


def render_thumbnail(pixels: Pixels) -> Bytes:
    """Resize a chip for a contact sheet; it keeps its aspect ratio and is centered on gray.

    Bytes are shown unchanged; other values are stretched from their 0.5th to their 99.5th percentile. Three bands are
    shown as R, G, B; of any other number of bands, the first band is shown.

    Args:
        pixels: the chip (H, W, B).

    Returns:
        Bytes (THUMB, THUMB, 3) in B, G, R order.
    """
    shown = pixels[:, :, ::-1] if pixels.shape[2] == 3 else np.repeat(pixels[:, :, :1], 3, axis=2)
    if shown.dtype != np.uint8:
        finite = shown[np.isfinite(shown)]
        low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
        scaled = (shown.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
        shown = np.clip(np.rint(np.nan_to_num(scaled)), 0, 255).astype(np.uint8)  # no-data is black
    height, width = shown.shape[:2]
    scale = THUMB / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(
        np.ascontiguousarray(shown), size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    out = np.full((THUMB, THUMB, 3), 128, np.uint8)
    top, left = (THUMB - size[1]) // 2, (THUMB - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = small
    return out
