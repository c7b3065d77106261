"""Draw scenes with their classified objects as maps: colored outlines, legend, scale bar and north arrow."""

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

from rsft.data.imagery.products.options import ProductOptions
from rsft.errors import RequestError
from rsft.inference.corrections.corrected_table import read_table_file
from rsft.inference.review.page import scene_pixels
from rsft.inference.review.truth import TruthCheck
from rsft.inference.writers.layer import (PredictionLayer)
from rsft.inference.writers.columns import (UNLIKE_LABEL)
from rsft.inference.writers.styles import class_colors
from rsft.scenes.georeference import Georeference
from rsft.scenes.raster import RasterScene, gdal_environment, open_scene
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
_ARROW_SHARE = (
    0.06  # length of the north arrow as a share of the larger side of the scene
)
_UNLIKE_COLOR = "#b0b0b0"
_OUTLINED = [
    withStroke(linewidth=2.5, foreground="black")
]  # makes white text readable on bright land


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
        entries = {
            text.replace(" the ", " the\n"): color
            for text, color in legend_colors(layer, scene).items()
        }
        handles = [
            Line2D([], [], color=color, marker="s", linestyle="", label=text)
            for text, color in entries.items()
        ]
        figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(right, 0.99),
            frameon=False,
            alignment="left",
        )
        figure.text(
            right + 0.02,
            0.02,
            "\n".join([scene.path.name, *caption]),
            fontsize=8,
            va="bottom",
        )
    _draw_scale(axes, scene)
    if scene.georeference is not None:
        _draw_north(axes, scene, scene.georeference)
    png = BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def legend_colors(layer: PredictionLayer, scene: RasterScene) -> dict[str, str]:
    """Return the colors of the map of a scene as #rrggbb, by class (or "unlike the training chips") with its chips."""
    table = _chips_of_scene(layer, scene)
    unlike = table.get("ood", pd.Series(False, table.index)).fillna(False).astype(bool)
    counts = table.loc[~unlike, "class"].value_counts()
    colors = {
        f"{name} ({counts[name]:,})": x
        for name, x in class_colors(layer.classes).items()
        if name in counts
    }
    return colors | (
        {f"{UNLIKE_LABEL} ({unlike.sum():,})": _UNLIKE_COLOR} if unlike.any() else {}
    )


def _chips_of_scene(layer: PredictionLayer, scene: RasterScene) -> pd.DataFrame:
    table = layer.table
    return table[
        table["class"].notna() & (table["scene"] == path_to_text(scene.path.name))
    ]


def _draw_objects(
    axes: Axes, table: pd.DataFrame, scene: RasterScene, colors: dict[str, str]
) -> None:
    """Draw the outline of every object, and a dot if it is a point or small."""
    limit = _SMALL * max(scene.width, scene.height)
    for row in table.to_dict("records"):
        is_unlike = row.get("ood") is True
        shape = row["geometry"]
        color, style = (
            (_UNLIKE_COLOR, "dashed") if is_unlike else (colors[row["class"]], "solid")
        )
        if shape is not None and shape.geom_type.endswith("Polygon"):
            polygons = shapely.get_parts(shape)
        else:
            polygons = []
        rings = [np.asarray(polygon.exterior.coords)[:, :2] for polygon in polygons]
        if scene.georeference is None:
            rings = [ring * (1, -1) for ring in rings]
        else:
            rings = [
                scene.georeference.lonlat_to_pixels(*ring.T)[:, ::-1] for ring in rings
            ]
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


def _draw_scale(axes: Axes, scene: RasterScene) -> None:
    """Draw a bar of a round length at the lower left; without pixel spacing, its length is in pixels."""
    meters = scene.spacing[1] if scene.spacing else 1.0
    longest = _BAR_SHARE * scene.width * meters
    power = 10 ** np.floor(np.log10(longest))
    length = float(max(step * power for step in _STEPS if step * power <= longest))
    unit, divisor = (
        ("km", 1000)
        if scene.spacing and length >= 1000
        else ("m" if scene.spacing else "pixels", 1)
    )
    left = 0.03 * scene.width
    row = 0.97 * scene.height
    label = f"{length / divisor:g} {unit}"
    for color, linewidth in (("black", 6), ("white", 3)):
        axes.plot(
            [left, left + length / meters],
            [row] * 2,
            color=color,
            linewidth=linewidth,
            solid_capstyle="butt",
        )
    axes.text(
        left,
        row - 0.015 * scene.height,
        label,
        color="white",
        fontsize=10,
        path_effects=_OUTLINED,
    )


def _draw_north(axes: Axes, scene: RasterScene, georeference: Georeference) -> None:
    """Draw an arrow to the north at the lower right."""
    lon, lat = georeference.pixels_to_lonlat([scene.height / 2], [scene.width / 2])[0]
    rows, cols = georeference.lonlat_to_pixels([lon, lon], [lat, lat + 1e-3]).T
    down, along = scene.spacing or (1.0, 1.0)
    direction = np.array([(cols[1] - cols[0]) * along, (rows[1] - rows[0]) * down])
    meters = _ARROW_SHARE * max(scene.height * down, scene.width * along)
    step = direction / np.linalg.norm(direction) * meters / (along, down)
    center = np.array([0.93 * scene.width, 0.93 * scene.height])
    arrow = {"arrowstyle": "-|>", "color": "white", "path_effects": _OUTLINED}
    axes.annotate("", center + step / 2, center - step / 2, arrowprops=arrow)
    x, y = center + 0.75 * step
    axes.text(
        x,
        y,
        "N",
        color="white",
        fontsize=11,
        ha="center",
        va="center",
        path_effects=_OUTLINED,
    )


def draw_scene_maps(
    predictions: Path, bundle_sha256: str
) -> list[tuple[str, int, int | None, list[str], dict[str, str], bytes]]:
    """Draw every scene of a predictions table with its classified chips.

    Args:
        predictions: a table that `rsft predict` wrote, with metadata. Its scenes must
            still be at their paths.
        bundle_sha256: SHA-256 of the bundle that must have classified the chips.

    Returns:
        Of each scene its name, the number of classified chips, how many of them are
        unlike the training chips (None if the bundle is not calibrated), the comparison
        with the truth in short lines, its `legend_colors`, and the map as a PNG without
        a legend.

    Raises:
        RequestError: the table is not one of scenes, was made by another bundle, or has
            more than `MAX_SCENES` scenes.
        DataError: a scene cannot be read.
    """
    table, metadata = read_table_file(predictions, _HINT)
    names = metadata.get("scenes", [])
    classes = metadata.get("classes", [])
    if not (
        _is_texts(names)
        and _is_texts(classes)
        and {"class", "scene", "row", "col", "geometry"} <= set(table)
    ):
        raise RequestError(
            "the table has no scenes with classified chips", predictions, _HINT
        )
    if metadata.get("bundle_sha256") != bundle_sha256:
        raise RequestError(
            "another bundle made the table",
            predictions,
            (
                "predict the scene with the bundle of this run, or write the report of the"
                " run that made the table"
            ),
        )
    if len(names) > MAX_SCENES:
        raise RequestError(
            (
                f"the table has {len(names):,} scenes, but a report shows at most"
                f" {MAX_SCENES}"
            ),
            predictions,
            "predict fewer scenes",
        )
    try:
        options = ProductOptions(
            **metadata.get("request", {}).get("product_options", {})
        )
        truth = {
            check.scene: check.caption()
            for check in (TruthCheck(**x) for x in metadata.get("truth") or ())
        }
    except (TypeError, ValueError, AttributeError) as error:
        raise RequestError(
            "the metadata of the table are damaged",
            predictions,
            "predict the scene again",
        ) from error
    layer = PredictionLayer(table, None, tuple(classes), metadata)
    maps = []
    with gdal_environment():
        for scene in (open_scene(name, options) for name in names):
            name = path_to_text(scene.path.name)
            chips = _chips_of_scene(layer, scene)
            if "ood" in chips:
                unlike = int(chips["ood"].fillna(False).astype(bool).sum())
            else:
                unlike = None
            caption = truth.get(name, [])
            legend = legend_colors(layer, scene)
            picture = draw_map_picture(layer, scene, None)
            maps.append((name, len(chips), unlike, caption, legend, picture))
    return maps


def _is_texts(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, str) for item in value)
    )
