"""Styles of a layer: QML for QGIS, SLD for other programs."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any, NamedTuple

from rsft.data.chips.record import NOT_A_TARGET, UNSURE
from rsft.inference.writers.layer import (CLASS_COLUMN, CORRECTED_COLUMN, LAYER_NAME, PredictionLayer)
from rsft.inference.writers.columns import (UNLIKE_LABEL)
from rsft.types import LONLAT

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

_MAP_WIDTH_MM = 250

_IS_CORRECTED = f"coalesce(\"{CORRECTED_COLUMN}\", '') NOT IN ('', '{UNSURE}')"

_QGIS_NULL = (  # stands for NULL in a list of values
    "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"
)


_ALIASES = {
    "chip": "Chip",
    "scene": "Scene",
    "path": "File of the pixels",
    "class": "Class",
    "corrected": "Corrected class",
    "probability": "Probability (0 to 1)",
    "class_2": "Second class",
    "probability_2": "Probability of the second class (0 to 1)",
    "class_set": "Class set",
    "ood": "Unlike the training chips",
    "ood_distance": "Distance from the training chips (limit = 1)",
    "length_m": "Length (m)",
    "length_m_low": "Shortest length (m)",
    "length_m_high": "Greatest length (m)",
    "length_from": "Source of the length",
    "row": "Row (pixels)",
    "col": "Column (pixels)",
    "lon": "Longitude (°)",
    "lat": "Latitude (°)",
    "at": "Id of the position",
    "score": "Score of the detector",
    "incidence_deg": "Incidence angle (°)",
}

_TIPS = {
    "probability": "'probability ' || format_number(\"probability\", 2)",
    "class_2": (
        "'or: ' || \"class_2\" || ' (' || format_number(\"probability_2\", 2) || ')'"
    ),
    "class_set": "'class set: ' || \"class_set\"",
    "ood": f"if(\"ood\", '{UNLIKE_LABEL}', NULL)",
    "length_m": "'length: ' || format_number(\"length_m\", 0) || ' m'",
    "corrected": "'corrected: ' || \"corrected\"",
}
"""QGIS expressions of the lines that are shown when the mouse rests on a chip."""


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


_GOLDEN_RATIO = (
    0.618034  # a step in hue by the golden ratio puts every new hue into the widest gap
)


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
        rgb = colorsys.hsv_to_rgb(step * _GOLDEN_RATIO % 1, 0.65, (0.85, 0.6)[step % 2])
        colors.append("#" + "".join(f"{round(255 * value):02x}" for value in rgb))
    return dict(zip(classes, colors, strict=False))


def qml_style(layer: PredictionLayer) -> str:
    """Return a QGIS style.

    Points are discs. Boxes are discs at small scales. Tiles are reduced to the step of
    the grid, so that they do not overlap, and are transparent as a layer. Chips unlike
    the training chips are gray, and hatched if they are polygons. Less probable classes
    have smaller discs, thinner outlines or fainter tiles. Labels show class and
    probability, at scales with room for them; tiles have none, their color is enough.
    """
    category = label = f'"{CLASS_COLUMN}"'
    categories = [
        _Category(name, name, color)
        for name, color in class_colors(layer.classes).items()
    ]
    if layer.has("ood"):
        categories.append(_Category(UNLIKE_LABEL, UNLIKE_LABEL, _GRAY))
    if layer.has("probability"):
        label += " || coalesce(' ' || round(100 * \"probability\") || ' %', '')"
        high, middle, _ = _PROBABILITY_LIMITS
        labels = (
            f"probability {high:g} or more",
            f"{middle:g} to {high:g}",
            f"below {middle:g}",
        )
        categories += [
            _Category(f"({label})", label, _OUTLINE, step)
            for step, label in enumerate(labels)
        ]
    if layer.has("ood"):
        category = f"if(\"ood\", '{UNLIKE_LABEL}', {category})"
        label = f'if("ood", NULL, {label})'
    if layer.has(CORRECTED_COLUMN):
        category, label = (
            f'if({_IS_CORRECTED}, "{CORRECTED_COLUMN}", {text})'
            for text in (category, label)
        )
    if layer.crs == LONLAT:
        meters = (
            f"{_METERS_PER_DEGREE} * sqrt(area($geometry) *"
            " cos(radians(y(centroid($geometry)))))"
        )
        box_mm = f"1000 * {meters} / @map_scale"
    else:  # the scale of the map has no meaning in pixels, so its width is assumed
        box_mm = f"{_MAP_WIDTH_MM} * sqrt(area($geometry)) / @map_extent_width"
    is_box = f"{box_mm} >= {_SMALLEST_BOX_MM}"
    tips = ", ".join(
        [
            f"'<b>' || \"{CLASS_COLUMN}\" || '</b>'",
            *(_TIPS[name] for name in _TIPS if layer.has(name)),
        ]
    )
    columns = [name for name in layer.table.columns if name != "geometry"]
    step = f"{layer.tile_step or 1.0:.6g}"
    return _render(
        "style.qml",
        layer,
        categories=categories,
        choices={"": _QGIS_NULL}
        | {name: name for name in (*layer.classes, NOT_A_TARGET, UNSURE)},
        columns=columns,
        aliases={name: _ALIASES.get(name) for name in columns}
        | {f"p_{name}": f"Probability of {name}" for name in layer.classes},
        category_expression=category,
        label=label,
        map_tip=f"[% array_to_string(array_remove_all(array({tips}), NULL), '<br>') %]",
        tile=f"scale($geometry, {step}, {step})",
        is_box=f"coalesce({is_box}, true)",
        small_box=f"if({is_box}, NULL, centroid($geometry))",
        in_degrees=layer.crs == LONLAT,
        steps=lambda category, name, values: _steps(layer, category, name, values),
        rgba=_rgba,
        polygon=_polygon,
        disc_mm=_DISC_MM,
        outline_mm=_OUTLINE_MM,
        tile_percent=_TILE_PERCENT,
    )


def sld_style(layer: PredictionLayer) -> str:
    """Return an SLD style with one rule per class."""
    return _render(
        "style.sld",
        layer,
        name=LAYER_NAME,
        colors=class_colors(layer.classes),
        unlike_label=UNLIKE_LABEL,
        gray=_GRAY,
    )


def _render(template: str, layer: PredictionLayer, **values: Any) -> str:
    style = {"shape": layer.shape, "has": layer.has, "outline": _OUTLINE}
    return render_template(
        "rsft.inference.writers", template, **style, **values
    ).strip()


def render_template(package: str, template: str, **values: Any) -> str:
    """Render a template of a package; values are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(**values)


def _steps(
    layer: PredictionLayer, category: _Category, name: str, values: tuple[float, ...]
) -> dict[str, str]:
    """Return a property that depends on the probability.

    Chips unlike the training chips are never emphasized.
    """
    if category.step is not None or category.is_unlike or not layer.has("probability"):
        return {}
    steps = zip(_PROBABILITY_LIMITS, values, strict=True)
    cases = [
        f'WHEN "probability" >= {limit:g} THEN {value:g}' for limit, value in steps
    ]
    if layer.has(CORRECTED_COLUMN):
        cases.insert(0, f"WHEN {_IS_CORRECTED} THEN {values[0]:g}")
    return {name: f"CASE {' '.join(cases)} END"}


def _polygon(category: _Category, alpha: int, outline_mm: float) -> dict[str, str]:
    return {
        "style": "b_diagonal" if category.is_unlike else "solid",
        "color": _rgba(category.color, 255 if category.is_unlike else alpha),
        "outline_color": _rgba(category.color, 255),
        "outline_width": f"{outline_mm:g}",
        "outline_style": "solid",
    }


def _rgba(color: str, alpha: int) -> str:
    return (
        ",".join(str(int(color[start : start + 2], 16)) for start in (1, 3, 5))
        + f",{alpha}"
    )
