"""Draw scenes with their classified objects as maps.

A map has colored outlines, a legend and a scale bar.
"""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from rsft.data.imagery.products.options import ProductOptions
from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import RequestError
from rsft.inference.prediction_table import read_table_file
from rsft.inference.review.page import scene_pixels
from rsft.inference.review.truth import TruthCheck
from rsft.inference.writers.columns import UNLIKE_LABEL
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.styles import class_colors
from rsft.scenes.fingerprint import allow_scene
from rsft.scenes.raster import RasterScene, gdal_environment, open_scene
from rsft.types import Floats
from rsft.utils.operating_system import path_to_text

MAX_SCENES = 6
"""Largest number of scenes in a table: a report is a page to send by mail."""

_HINT = (
    "give the .gpkg, .geojson or .parquet that `rsft predict` wrote with --at, --grid"
    " or --detect"
)

_SIDE = 1600  # largest side of the scene in pixels of the picture
_DPI = 130
_HEIGHT = 7.0
_LEGEND_WIDTH = 2.3  # inches
_WIDTHS = (3.5, 14.0)  # of the map, in inches
_SMALL = 1 / 60  # an outline smaller than this share of the scene gets a dot
_BAR_SHARE = 0.25  # largest length of the scale bar as a share of the width
_UNLIKE_COLOR = "#b0b0b0"


class MapPicture(NamedTuple):
    """The map of one scene of a predictions table.

    Attributes:
        scene: name of the scene.
        chips: number of classified chips.
        unlike: number of chips that are unlike the training chips; None if the bundle
            is not calibrated.
        caption: the comparison with the truth in short lines.
        colors: color as #rrggbb of each class, or of the unlike chips, with its number
            of chips.
        picture: the map as a PNG without a legend.
    """

    scene: str
    chips: int
    unlike: int | None
    caption: list[str]
    colors: dict[str, str]
    picture: bytes


def draw_map_picture(
    layer: PredictionLayer, scene: RasterScene, caption: Sequence[str] | None = ()
) -> bytes:
    """Draw a scene and the objects that were classified in it.

    Chips unlike the training chips are gray. Objects that are small in the picture get
    a dot.

    Args:
        layer: the predictions of this scene, or of several scenes, of which only this
            one is drawn.
        scene: the scene.
        caption: lines below the legend; None for a picture without a legend, which the
            page around it has.

    Returns:
        A PNG.
    """
    objects, legend = _color_objects(layer, scene)
    down, along = scene.spacing or (1.0, 1.0)
    ratio = scene.width * along / (scene.height * down)  # the shape on the ground
    width = float(np.clip(_HEIGHT * ratio, *_WIDTHS))
    height = float(np.clip(width / ratio, _HEIGHT / 2, 2 * _HEIGHT))
    right = 1.0 if caption is None else width / (width + _LEGEND_WIDTH)
    figure = Figure(figsize=(width / right, height), dpi=_DPI, facecolor="white")
    axes = figure.add_axes((0, 0, right, 1))
    axes.axis("off")
    axes.imshow(
        scene_pixels(scene, _SIDE),
        cmap="gray",
        extent=(0, scene.width, scene.height, 0),
        aspect="auto",
    )
    axes.set(xlim=(0, scene.width), ylim=(scene.height, 0))
    _draw_objects(axes, objects, scene)
    if caption is not None:
        _draw_legend(figure, right, legend)
        text = "\n".join([scene.path.name, *caption])
        figure.text(right + 0.02, 0.02, text, fontsize=8, va="bottom")
    _draw_scale(axes, scene)
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _color_objects(
    layer: PredictionLayer, scene: RasterScene
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the classified chips of a scene and its legend.

    Returns:
        The rows with their `label`, a class or `UNLIKE_LABEL`, and its `color`; and the
        color as #rrggbb of each label with its number of chips.
    """
    table = layer.table
    is_here = table["scene"] == path_to_text(scene.path.name)
    table = table[is_here & table["class"].notna()]
    labels = table["class"]
    if "ood" in table:  # a calibrated bundle
        labels = labels.mask(table["ood"].fillna(False).astype(bool), UNLIKE_LABEL)
    colors = class_colors(layer.classes) | {UNLIKE_LABEL: _UNLIKE_COLOR}
    counts = labels.value_counts()
    legend = {
        f"{label} ({counts[label]:,})": color
        for label, color in colors.items()
        if label in counts
    }
    return table.assign(
        label=labels, color=labels.map(colors).fillna(_UNLIKE_COLOR)
    ), legend


def _draw_legend(figure: Figure, left: float, colors: dict[str, str]) -> None:
    handles = [
        Patch(color=color, label=text.replace(" the ", " the\n"))
        for text, color in colors.items()
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left, 0.99),
        frameon=False,
        alignment="left",
        handlelength=1,
    )


def _draw_objects(axes: Axes, objects: pd.DataFrame, scene: RasterScene) -> None:
    """Draw the outline of every object, and a dot if it is a point or small."""
    limit = _SMALL * max(scene.width, scene.height)
    for row in objects.to_dict("records"):
        rings = _outlines(row["geometry"], scene)
        style = "dashed" if row["label"] == UNLIKE_LABEL else "solid"
        axes.add_collection(
            LineCollection(rings, colors=row["color"], linewidths=1.6, linestyles=style)
        )
        if max((np.ptp(ring, axis=0).max() for ring in rings), default=0.0) < limit:
            axes.scatter(
                row["col"],
                row["row"],
                25,
                row["color"],
                edgecolors="black",
                linewidths=0.5,
                zorder=2,
            )


def _outlines(shape: Any, scene: RasterScene) -> list[Floats]:
    """Return the outlines (N, 2) of polygons in pixels of the scene; none of points."""
    if shape is None or not shape.geom_type.endswith("Polygon"):
        return []
    rings = []
    for polygon in shapely.get_parts(shape):
        ring = np.asarray(polygon.exterior.coords)[:, :2]
        if not scene.georeference:
            rings.append(ring * (1, -1))
        else:
            rings.append(scene.georeference.lonlat_to_pixels(*ring.T)[:, ::-1])
    return rings


def _draw_scale(axes: Axes, scene: RasterScene) -> None:
    """Draw a bar of a round length at the lower left.

    Without pixel spacing, its length is in pixels.
    """
    meters = 1.0
    unit = "pixels"
    if scene.spacing:
        meters = scene.spacing[1]
        unit = "m"
    length = 10.0 ** math.floor(math.log10(_BAR_SHARE * scene.width * meters))
    axes.add_artist(
        AnchoredSizeBar(
            axes.transData, length / meters, f"{length:,g} {unit}", "lower left"
        )
    )


def draw_scene_maps(predictions: Path, bundle_sha256: str) -> list[MapPicture]:
    """Draw every scene of a predictions table with its classified chips.

    Args:
        predictions: a table that `rsft predict` wrote, with metadata. Its scenes must
            still be at their paths.
        bundle_sha256: SHA-256 of the bundle that must have classified the chips.

    Returns:
        One map per scene.

    Raises:
        RequestError: the table is not one of scenes, was made by another bundle, or has
            more than `MAX_SCENES` scenes.
        DataError: a scene cannot be read.
    """
    table, metadata = read_table_file(predictions, _HINT)
    if metadata.get("bundle_sha256") != bundle_sha256:
        raise RequestError(
            "another bundle made the table",
            predictions,
            "predict the scene with the bundle of this run, or write the report of the"
            " run that made the table",
        )
    try:
        names = []
        if {"class", "scene", "row", "col", "geometry"} <= set(table):
            names = [SceneUri.parse(name) for name in metadata["scenes"]]
        classes = tuple(metadata["classes"])
        request = metadata.get("request", {})
        options = ProductOptions(**request.get("product_options", {}))
        checks = [TruthCheck(**values) for values in metadata.get("truth") or ()]
        captions = {check.scene: check.caption() for check in checks}
        for cut in metadata.get("cuts") or ():
            allow_scene(SceneUri.parse(cut["path"]), cut["fingerprint"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RequestError(
            "the metadata of the table are damaged", predictions, _HINT
        ) from error
    if not 1 <= len(names) <= MAX_SCENES:
        raise RequestError(
            f"the table has {len(names):,} scenes with classified chips, but a report"
            f" shows 1 to {MAX_SCENES}",
            predictions,
            _HINT,
        )
    layer = PredictionLayer(table, None, classes, metadata)
    with gdal_environment():
        scenes = [open_scene(name, options) for name in names]
        return [_draw_scene_map(layer, scene, captions) for scene in scenes]


def _draw_scene_map(
    layer: PredictionLayer, scene: RasterScene, captions: dict[str, list[str]]
) -> MapPicture:
    name = path_to_text(scene.path.name)
    objects, legend = _color_objects(layer, scene)
    unlike = None
    if "ood" in objects:
        unlike = int((objects["label"] == UNLIKE_LABEL).sum())
    picture = draw_map_picture(layer, scene, None)
    caption = captions.get(name, [])
    return MapPicture(name, len(objects), unlike, caption, legend, picture)
