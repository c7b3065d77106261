"""Draw scenes with their classified objects as maps.

A map has colored outlines, a legend and a scale bar.
"""

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
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

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
_STEPS = (1, 2, 5)  # leading digits of its length
_UNLIKE_COLOR = "#b0b0b0"
# makes white text readable on bright land
_OUTLINED = [withStroke(linewidth=2.5, foreground="black")]


class MapPicture(NamedTuple):
    """The map of one scene of a predictions table.

    Attributes:
        scene: name of the scene.
        chips: number of classified chips.
        unlike: number of chips that are unlike the training chips; None if the bundle
            is not calibrated.
        caption: the comparison with the truth in short lines.
        colors: `legend_colors` of the scene.
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
    table = _chips_of_scene(layer, scene)
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
    _draw_objects(axes, table, scene, class_colors(layer.classes))
    if caption is not None:
        _draw_legend(figure, right, legend_colors(layer, scene))
        figure.text(
            right + 0.02,
            0.02,
            "\n".join([scene.path.name, *caption]),
            fontsize=8,
            va="bottom",
        )
    _draw_scale(axes, scene)
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def legend_colors(layer: PredictionLayer, scene: RasterScene) -> dict[str, str]:
    """Return the colors of the map of a scene as #rrggbb.

    Returns:
        Colors by class (or "unlike the training chips") with its number of chips.
    """
    table = _chips_of_scene(layer, scene)
    unlike = _is_unlike(table)
    counts = table.loc[~unlike, "class"].value_counts()
    colors = {}
    for name, color in class_colors(layer.classes).items():
        if name in counts:
            colors[f"{name} ({counts[name]:,})"] = color
    if unlike.any():
        colors[f"{UNLIKE_LABEL} ({unlike.sum():,})"] = _UNLIKE_COLOR
    return colors


def _chips_of_scene(layer: PredictionLayer, scene: RasterScene) -> pd.DataFrame:
    table = layer.table
    return table[
        table["class"].notna() & (table["scene"] == path_to_text(scene.path.name))
    ]


def _is_unlike(table: pd.DataFrame) -> pd.Series:
    """Return which chips are unlike the training chips; none without a calibration."""
    if "ood" not in table:
        return pd.Series(False, table.index)
    return table["ood"].fillna(False).astype(bool)


def _draw_legend(figure: Figure, left: float, colors: dict[str, str]) -> None:
    handles = []
    for text, color in colors.items():
        handles.append(
            Line2D(
                [],
                [],
                color=color,
                marker="s",
                linestyle="",
                label=text.replace(" the ", " the\n"),
            )
        )
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(left, 0.99),
        frameon=False,
        alignment="left",
    )


def _draw_objects(
    axes: Axes, table: pd.DataFrame, scene: RasterScene, colors: dict[str, str]
) -> None:
    """Draw the outline of every object, and a dot if it is a point or small."""
    limit = _SMALL * max(scene.width, scene.height)
    for row in table.to_dict("records"):
        color = colors[row["class"]]
        style = "solid"
        if row.get("ood") is True:
            color = _UNLIKE_COLOR
            style = "dashed"
        rings = _outlines(row["geometry"], scene)
        axes.add_collection(
            LineCollection(rings, colors=color, linewidths=1.6, linestyles=style)
        )
        if max((np.ptp(ring, axis=0).max() for ring in rings), default=0.0) < limit:
            axes.scatter(
                row["col"],
                row["row"],
                25,
                color,
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
    meters = scene.spacing[1] if scene.spacing else 1.0
    longest = _BAR_SHARE * scene.width * meters
    lengths = np.array(_STEPS) * 10 ** np.floor(np.log10(longest))
    length = float(lengths[lengths <= longest].max())
    left = 0.03 * scene.width
    row = 0.97 * scene.height
    ends = left, left + length / meters
    style: dict[str, Any] = {"color": "white", "path_effects": _OUTLINED}
    axes.plot(ends, (row, row), linewidth=3, solid_capstyle="butt", **style)
    unit = "m" if scene.spacing else "pixels"
    axes.text(left, row - 0.015 * scene.height, f"{length:,g} {unit}", **style)


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
    names = metadata.get("scenes", [])
    classes = metadata.get("classes", [])
    has_columns = {"class", "scene", "row", "col", "geometry"} <= set(table)
    if not (has_columns and _is_texts(names) and _is_texts(classes)):
        raise RequestError(
            "the table has no scenes with classified chips", predictions, _HINT
        )
    if metadata.get("bundle_sha256") != bundle_sha256:
        raise RequestError(
            "another bundle made the table",
            predictions,
            "predict the scene with the bundle of this run, or write the report of the"
            " run that made the table",
        )
    if len(names) > MAX_SCENES:
        raise RequestError(
            f"the table has {len(names):,} scenes, but a report shows at most"
            f" {MAX_SCENES}",
            predictions,
            "predict fewer scenes",
        )
    try:
        request = metadata.get("request", {})
        options = ProductOptions(**request.get("product_options", {}))
        checks = [TruthCheck(**values) for values in metadata.get("truth") or ()]
        captions = {check.scene: check.caption() for check in checks}
        for cut in metadata.get("cuts") or ():
            allow_scene(SceneUri.parse(cut["path"]), cut["fingerprint"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RequestError(
            "the metadata of the table are damaged",
            predictions,
            "predict the scene again",
        ) from error
    layer = PredictionLayer(table, None, tuple(classes), metadata)
    with gdal_environment():
        scenes = [open_scene(name, options) for name in names]
        return [_draw_scene_map(layer, scene, captions) for scene in scenes]


def _draw_scene_map(
    layer: PredictionLayer, scene: RasterScene, captions: dict[str, list[str]]
) -> MapPicture:
    name = path_to_text(scene.path.name)
    chips = _chips_of_scene(layer, scene)
    unlike = int(_is_unlike(chips).sum()) if "ood" in chips else None
    return MapPicture(
        name,
        len(chips),
        unlike,
        captions.get(name, []),
        legend_colors(layer, scene),
        draw_map_picture(layer, scene, None),
    )


def _is_texts(value: object) -> bool:
    if not isinstance(value, list):
        return False
    return bool(value) and all(isinstance(item, str) for item in value)
