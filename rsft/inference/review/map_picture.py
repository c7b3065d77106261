"""Draw a scene with its classified objects as a PNG: colored outlines, legend, scale bar and north arrow."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from rsft.inference.inputs.chip_source import path_to_text
from rsft.inference.review.thumbnail import scene_pixels
from rsft.inference.scenes.raster import RasterScene
from rsft.inference.writers.map_style import UNLIKE_LABEL
from rsft.inference.writers.palette import class_colors
from rsft.inference.writers.tables import PredictionLayer
from rsft.types import Floats
from rsft.utils.atomic_files import write_bytes

_SIDE = 1600  # largest side of the scene in pixels of the picture
_DPI, _HEIGHT, _LEGEND_WIDTH = 130, 7.0, 2.3  # inches
_WIDTHS = (3.5, 14.0)  # of the map, in inches
_SMALL = 1 / 60  # an outline smaller than this share of the scene gets a dot
_BAR_SHARE = 0.25  # largest length of the scale bar as a share of the width
_STEPS = (1, 2, 5)  # leading digits of its length
_ARROW_SHARE = 0.06  # length of the north arrow as a share of the larger side of the scene
_UNLIKE_COLOR = "#b0b0b0"
_OUTLINED = [withStroke(linewidth=2.5, foreground="black")]  # makes white text readable on bright land


def write_map_picture(path: Path, layer: PredictionLayer, scene: RasterScene, caption: Sequence[str] = ()) -> None:
    """Write `draw_map_picture` to a file.

    Args:
        path: path of the PNG.
        layer: the predictions.
        scene: the scene.
        caption: lines below the legend.
    """
    write_bytes(path, draw_map_picture(layer, scene, caption))


def draw_map_picture(layer: PredictionLayer, scene: RasterScene, caption: Sequence[str] = ()) -> bytes:
    """Draw a scene and the objects that were classified in it.

    Chips unlike the training chips are gray. Objects that are small in the picture get a dot.

    Args:
        layer: the predictions of this scene, or of several scenes, of which only this one is drawn.
        scene: the scene.
        caption: lines below the legend.

    Returns:
        A PNG.
    """
    table = layer.table
    table = table[table["class"].notna() & (table["scene"] == path_to_text(scene.path.name))]
    figure, axes = _make_figure(scene)
    axes.imshow(scene_pixels(scene, _SIDE), cmap="gray", extent=(0, scene.width, scene.height, 0), aspect="auto")
    axes.set(xlim=(0, scene.width), ylim=(scene.height, 0))
    colors = class_colors(layer.classes)
    _draw_objects(axes, table, scene, colors)
    _draw_legend(figure, axes.get_position().x1, table, colors)
    figure.text(axes.get_position().x1 + 0.02, 0.02, "\n".join([scene.path.name, *caption]), fontsize=8, va="bottom")
    _draw_scale(axes, scene)
    _draw_north(axes, scene)
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _make_figure(scene: RasterScene) -> tuple[Figure, Axes]:
    """Return a figure with the shape of the scene on the ground and room for the legend at its right."""
    down, along = scene.spacing or (1.0, 1.0)
    ratio = scene.width * along / (scene.height * down)
    width = float(np.clip(_HEIGHT * ratio, *_WIDTHS))
    height = float(np.clip(width / ratio, _HEIGHT / 2, 2 * _HEIGHT))
    figure = Figure(figsize=(width + _LEGEND_WIDTH, height), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, width / (width + _LEGEND_WIDTH), 1))
    axes.axis("off")
    return figure, axes


def _draw_objects(axes: Axes, table: pd.DataFrame, scene: RasterScene, colors: dict[str, str]) -> None:
    """Draw the outline of every object, and a dot if it is a point or small."""
    limit = _SMALL * max(scene.width, scene.height)
    unlike = _is_unlike(table)
    for row, is_unlike in zip(table.to_dict("records"), unlike, strict=True):
        color = _UNLIKE_COLOR if is_unlike else colors[row["class"]]
        rings = _outlines(row["geometry"], scene)
        axes.add_collection(
            LineCollection(rings, colors=color, linewidths=1.6, linestyles="dashed" if is_unlike else "solid")
        )
        if max((np.ptp(ring, axis=0).max() for ring in rings), default=0.0) < limit:
            axes.plot(
                row["col"], row["row"], "o", color=color, markersize=5, markeredgecolor="black", markeredgewidth=0.5
            )


def _is_unlike(table: pd.DataFrame) -> NDArray[np.bool_]:
    return table["ood"].fillna(False).to_numpy(bool) if "ood" in table else np.zeros(len(table), bool)


def _outlines(shape: shapely.Geometry | None, scene: RasterScene) -> list[Floats]:
    """Return the outlines of a polygon in pixels, (N, 2) column and row each; none for a point."""
    if shape is None or shape.geom_type not in ("Polygon", "MultiPolygon"):
        return []
    polygons = shapely.get_parts(shape)
    rings = [np.asarray(polygon.exterior.coords)[:, :2] for polygon in polygons]
    if scene.georeference is None:
        return [ring * (1, -1) for ring in rings]
    return [scene.georeference.lonlat_to_pixels(*ring.T)[:, ::-1] for ring in rings]


def _draw_legend(figure: Figure, left: float, table: pd.DataFrame, colors: dict[str, str]) -> None:
    """Draw the classes that occur, with their numbers of objects, at the upper right."""
    unlike = _is_unlike(table)
    counts = table.loc[~unlike, "class"].value_counts()
    shown = {f"{name} ({counts[name]:,})": color for name, color in colors.items() if name in counts}
    if unlike.any():
        shown[f"{UNLIKE_LABEL} ({unlike.sum():,})".replace(" the ", " the\n")] = _UNLIKE_COLOR
    handles = [Line2D([], [], color=color, marker="s", linestyle="", label=name) for name, color in shown.items()]
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(left, 0.99), frameon=False, alignment="left")


def _draw_scale(axes: Axes, scene: RasterScene) -> None:
    """Draw a bar of a round length at the lower left; without pixel spacing, its length is in pixels."""
    meters = scene.spacing[1] if scene.spacing else 1.0
    longest = _BAR_SHARE * scene.width * meters
    power = 10 ** np.floor(np.log10(longest))
    length = float(max(step * power for step in _STEPS if step * power <= longest))
    unit, divisor = ("km", 1000) if scene.spacing and length >= 1000 else ("m" if scene.spacing else "pixels", 1)
    left, row = 0.03 * scene.width, 0.97 * scene.height
    axes.plot([left, left + length / meters], [row, row], color="black", linewidth=6, solid_capstyle="butt")
    axes.plot([left, left + length / meters], [row, row], color="white", linewidth=3, solid_capstyle="butt")
    axes.text(
        left,
        row - 0.015 * scene.height,
        f"{length / divisor:g} {unit}",
        color="white",
        fontsize=10,
        path_effects=_OUTLINED,
    )


def _draw_north(axes: Axes, scene: RasterScene) -> None:
    """Draw an arrow to the north at the lower right; none without a georeference."""
    if scene.georeference is None:
        return
    middle = scene.georeference.pixels_to_lonlat([scene.height / 2], [scene.width / 2])[0]
    rows, cols = scene.georeference.lonlat_to_pixels([middle[0]] * 2, [middle[1], middle[1] + 1e-3]).T
    down, along = scene.spacing or (1.0, 1.0)
    direction = np.array([(cols[1] - cols[0]) * along, (rows[1] - rows[0]) * down])
    meters = _ARROW_SHARE * max(scene.height * down, scene.width * along)
    step = direction / np.linalg.norm(direction) * meters / (along, down)
    center = np.array([0.93 * scene.width, 0.93 * scene.height])
    arrow = {"arrowstyle": "-|>", "color": "white", "path_effects": _OUTLINED}
    axes.annotate("", center + step / 2, center - step / 2, arrowprops=arrow)
    tip = center + 0.75 * step
    axes.text(tip[0], tip[1], "N", color="white", fontsize=11, ha="center", va="center", path_effects=_OUTLINED)
