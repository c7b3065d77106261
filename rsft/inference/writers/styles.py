"""The style of a layer for QGIS."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from rsft.data.chips.record import NOT_A_TARGET, UNSURE
from rsft.inference.writers.columns import UNLIKE_LABEL, column_labels, column_tips
from rsft.inference.writers.layer import (
    CLASS_COLUMN,
    CORRECTED_COLUMN,
    PredictionLayer,
)
from rsft.types import LONLAT
from rsft.utils.templates import render_template

_OUTLINE = "#202020"
_GRAY = "#8c8c8c"
_PROBABILITY_LIMITS = (0.9, 0.6, 0.0)
_DISC_MM = (4.2, 3.2, 2.4)
_OUTLINE_MM = (1.0, 0.6, 0.35)
_TILE_PERCENT = (100, 70, 40)
"""Diameters, widths and opacities for probabilities above each limit: few steps, which
readers can tell apart. Small symbols vary in size, because transparent ones lose their
hue on a dark scene. Areas vary in opacity."""

_SMALLEST_BOX_MM = 3  # a box that is smaller on the screen is drawn as a disc
_METERS_PER_DEGREE = 111_320
_IS_CORRECTED = f"coalesce(\"{CORRECTED_COLUMN}\", '') NOT IN ('', '{UNSURE}')"
# stands for NULL in a list of values
_QGIS_NULL = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"

_OKABE_ITO = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#d55e00",
    "#0072b2",
    "#cc79a7",
    "#f0e442",
)
"""Colors that color-blind readers can distinguish (Okabe and Ito 2008), without black,
which is used for outlines."""

# a step in hue by the golden ratio puts every new hue into the widest gap
_GOLDEN_RATIO = 0.618034


class _Category(NamedTuple):
    """One entry of the legend.

    With a step it explains the size or opacity, and no chip belongs to it.
    """

    value: str
    label: str
    color: str
    step: int | None = None

    @property
    def is_unlike(self) -> bool:
        return self.value == UNLIKE_LABEL

    @property
    def shown_step(self) -> int:
        """Step of a symbol whose chip is not known, as in the legend."""
        if self.is_unlike:
            return 2
        if self.step is None:
            return 1
        return self.step


def class_colors(classes: Sequence[str]) -> dict[str, str]:
    """Return a color as #rrggbb for every class, by its index in the bundle."""
    colors = list(_OKABE_ITO)
    for step in range(len(classes) - len(_OKABE_ITO)):
        hue = step * _GOLDEN_RATIO % 1
        rgb = colorsys.hsv_to_rgb(hue, 0.65, (0.85, 0.6)[step % 2])
        colors.append("#" + bytes(round(255 * value) for value in rgb).hex())
    return dict(zip(classes, colors, strict=False))


def qml_style(layer: PredictionLayer) -> str:
    """Return a QGIS style.

    Points are discs. Boxes are discs at small scales. Tiles are reduced to the step of
    the grid, so that they do not overlap, and are transparent as a layer. Chips unlike
    the training chips are gray, and hatched if they are polygons. Less probable classes
    have smaller discs, thinner outlines or fainter tiles. Labels show class and
    probability, at scales with room for them; tiles have none, their color is enough.
    """
    label, category = _class_expressions(layer)
    columns = [name for name in layer.table.columns if name != "geometry"]
    labels = column_labels(layer.classes)
    tips = ", ".join(column_tips(layer.has))
    step = f"{layer.tile_step or 1.0:.6g}"
    is_box = _is_box_expression(layer)
    choices = {name: name for name in (*layer.classes, NOT_A_TARGET, UNSURE)}
    text = render_template(
        "rsft.inference.writers",
        "style.qml",
        escape=True,
        shape=layer.shape,
        has=layer.has,
        outline=_OUTLINE,
        categories=_make_categories(layer),
        choices={"": _QGIS_NULL, **choices},
        columns=columns,
        aliases={name: labels.get(name) for name in columns},
        category_expression=category,
        label=label,
        map_tip=f"[% array_to_string(array_remove_all(array({tips}), NULL), '<br>') %]",
        tile=f"scale($geometry, {step}, {step})",
        is_box=f"coalesce({is_box}, true)",
        small_box=f"if({is_box}, NULL, centroid($geometry))",
        in_degrees=layer.crs == LONLAT,
        steps=partial(_steps, layer),
        rgba=_rgba,
        polygon=_polygon,
        disc_mm=_DISC_MM,
        outline_mm=_OUTLINE_MM,
        tile_percent=_TILE_PERCENT,
    )
    return text.strip()


def _make_categories(layer: PredictionLayer) -> list[_Category]:
    """Return the entries of the legend."""
    colors = class_colors(layer.classes)
    categories = [_Category(name, name, color) for name, color in colors.items()]
    if layer.has("ood"):
        categories.append(_Category(UNLIKE_LABEL, UNLIKE_LABEL, _GRAY))
    if layer.has("probability"):
        high, middle, _ = _PROBABILITY_LIMITS
        labels = (
            f"probability {high:g} or more",
            f"{middle:g} to {high:g}",
            f"below {middle:g}",
        )
        for step, label in enumerate(labels):
            categories.append(_Category(f"({label})", label, _OUTLINE, step))
    return categories


def _class_expressions(layer: PredictionLayer) -> tuple[str, str]:
    """Return the QGIS expressions of the label and of the category of a chip."""
    label = category = f'"{CLASS_COLUMN}"'
    if layer.has("probability"):
        label += " || coalesce(' ' || round(100 * \"probability\") || ' %', '')"
    if layer.has("ood"):
        label = f'if("ood", NULL, {label})'
        category = f"if(\"ood\", '{UNLIKE_LABEL}', {category})"
    if layer.has(CORRECTED_COLUMN):
        label = f'if({_IS_CORRECTED}, "{CORRECTED_COLUMN}", {label})'
        category = f'if({_IS_CORRECTED}, "{CORRECTED_COLUMN}", {category})'
    return label, category


def _is_box_expression(layer: PredictionLayer) -> str:
    """Return the QGIS expression whether a box is large enough on the screen."""
    if layer.crs != LONLAT:  # the scale of a map has no meaning in pixels
        return "true"
    meters = (
        f"{_METERS_PER_DEGREE} * sqrt(area($geometry) *"
        " cos(radians(y(centroid($geometry)))))"
    )
    return f"1000 * {meters} / @map_scale >= {_SMALLEST_BOX_MM}"


def _steps(
    layer: PredictionLayer, category: _Category, name: str, values: tuple[float, ...]
) -> dict[str, str]:
    """Return a property that depends on the probability.

    Chips unlike the training chips are never emphasized.
    """
    if category.step is not None or category.is_unlike or not layer.has("probability"):
        return {}
    cases = [
        f'WHEN "probability" >= {limit:g} THEN {value:g}'
        for limit, value in zip(_PROBABILITY_LIMITS, values, strict=True)
    ]
    if layer.has(CORRECTED_COLUMN):
        cases.insert(0, f"WHEN {_IS_CORRECTED} THEN {values[0]:g}")
    return {name: f"CASE {' '.join(cases)} END"}


def _polygon(category: _Category, alpha: int, outline_mm: float) -> dict[str, str]:
    """Return the options of a polygon; chips unlike the training chips are hatched."""
    style = "solid"
    if category.is_unlike:
        style = "b_diagonal"
        alpha = 255
    return {
        "style": style,
        "color": _rgba(category.color, alpha),
        "outline_color": _rgba(category.color, 255),
        "outline_width": f"{outline_mm:g}",
        "outline_style": "solid",
    }


def _rgba(color: str, alpha: int) -> str:
    """Return a color #rrggbb as QGIS writes it: red, green, blue and alpha."""
    values = [*bytes.fromhex(color[1:]), alpha]
    return ",".join(map(str, values))
