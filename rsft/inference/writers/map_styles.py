"""Styles of a map of predictions, with one color per class: for QGIS (style.qml), for other programs (style.sld)."""

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

CLASS_COLUMN, CORRECTED_COLUMN = "class", "corrected"
"""The column that selects the color, and that of corrections by an analyst, which replaces it."""

NOT_A_TARGET, UNSURE = "not a target", "unsure"
"""Values in the column of corrections, beside the names of the classes."""

UNLIKE_LABEL = "unlike the training chips"
"""Label of chips whose class should not be trusted. They are gray, and hatched if they are polygons."""

Shape = Literal["point", "box", "tile"]

_OUTLINE, _GRAY = "#202020", "#8c8c8c"
_PROBABILITY_LIMITS = (0.9, 0.6, 0.0)
_DISC_MM, _OUTLINE_MM, _TILE_PERCENT = (4.2, 3.2, 2.4), (1.0, 0.6, 0.35), (100, 70, 40)
"""Diameters, widths and opacities for probabilities above each limit: few steps, which readers can tell apart. Small
symbols vary in size, because transparent ones lose their hue on a dark scene. Areas vary in opacity."""

_SMALLEST_BOX_MM = 3  # a box that is smaller on the screen is drawn as a disc
_METERS_PER_DEGREE = 111_320
_MAP_WIDTH_MM = 250
_IS_CORRECTED = f"coalesce(\"{CORRECTED_COLUMN}\", '') NOT IN ('', '{UNSURE}')"
_QGIS_NULL = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"  # stands for NULL in a list of values

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
    "class_2": "'or: ' || \"class_2\" || ' (' || format_number(\"probability_2\", 2) || ')'",
    "class_set": "'class set: ' || \"class_set\"",
    "ood": f"if(\"ood\", '{UNLIKE_LABEL}', NULL)",
    "length_m": "'length: ' || format_number(\"length_m\", 0) || ' m'",
    "corrected": "'corrected: ' || \"corrected\"",
}
"""QGIS expressions of the lines that are shown when the mouse rests on a chip."""

_OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#cc79a7", "#f0e442")
"""Colors that color-blind readers can distinguish (Okabe and Ito 2008), without black, which is used for outlines."""

_GOLDEN_RATIO = 0.618034  # a step in hue by the golden ratio puts every new hue into the widest gap


@dataclass(frozen=True)
class MapStyle:
    """Everything that the style of a layer depends on.

    Attributes:
        colors: color of each class as #rrggbb.
        columns: names of the columns of the table.
        shape: "point", "box" (outlines of objects or chips) or "tile" (tiles of a grid).
        tile_step: step between tiles as a fraction of their size, at most 1.
        in_degrees: whether the coordinates are degrees. Otherwise they are pixels.
    """

    colors: Mapping[str, str]
    columns: Sequence[str]
    shape: Shape = "point"
    tile_step: float = 1.0
    in_degrees: bool = True

    def has(self, column: str) -> bool:
        """Return whether the table has a column."""
        return column in self.columns


class _Category(NamedTuple):
    """One entry of the legend. With a step it explains the size or opacity, and no chip belongs to it."""

    value: str
    label: str
    color: str
    step: int | None = None

    @property
    def is_unlike(self) -> bool:
        return self.value == UNLIKE_LABEL


def class_colors(classes: Sequence[str]) -> dict[str, str]:
    """Return a color as #rrggbb for every class, by its index in the bundle."""
    colors = list(_OKABE_ITO)
    for step in range(len(classes) - len(_OKABE_ITO)):
        rgb = colorsys.hsv_to_rgb(step * _GOLDEN_RATIO % 1, 0.65, (0.85, 0.6)[step % 2])
        colors.append("#" + "".join(f"{round(255 * value):02x}" for value in rgb))
    return dict(zip(classes, colors, strict=False))


def qml_style(style: MapStyle) -> str:
    """Return a QGIS style.

    Points are discs. Boxes are discs at small scales. Tiles are reduced to the step of the grid, so that they do not
    overlap, and are transparent as a layer. Chips unlike the training chips are gray, and hatched if they are polygons.
    Less probable classes have smaller discs, thinner outlines or fainter tiles. Labels show class and probability, at
    scales with room for them; tiles have none, their color is enough.
    """
    category, label = f'"{CLASS_COLUMN}"', f'"{CLASS_COLUMN}"'
    if style.has("probability"):
        label += " || coalesce(' ' || round(100 * \"probability\") || ' %', '')"
    if style.has("ood"):
        category, label = f"if(\"ood\", '{UNLIKE_LABEL}', {category})", f'if("ood", NULL, {label})'
    if style.has(CORRECTED_COLUMN):
        category, label = (f'if({_IS_CORRECTED}, "{CORRECTED_COLUMN}", {text})' for text in (category, label))
    if style.in_degrees:
        meters = f"{_METERS_PER_DEGREE} * sqrt(area($geometry) * cos(radians(y(centroid($geometry)))))"
        box_mm = f"1000 * {meters} / @map_scale"
    else:  # the scale of the map has no meaning in pixels, so its width is assumed
        box_mm = f"{_MAP_WIDTH_MM} * sqrt(area($geometry)) / @map_extent_width"
    is_box = f"{box_mm} >= {_SMALLEST_BOX_MM}"
    tips = ", ".join([f"'<b>' || \"{CLASS_COLUMN}\" || '</b>'", *(_TIPS[name] for name in _TIPS if style.has(name))])
    step = f"{style.tile_step:.6g}"
    return _render(
        "style.qml",
        style=style,
        categories=_categories(style),
        choices={"": _QGIS_NULL} | {name: name for name in (*style.colors, NOT_A_TARGET, UNSURE)},
        aliases={name: _ALIASES.get(name) for name in style.columns}
        | {f"p_{name}": f"Probability of {name}" for name in style.colors},
        category_expression=category,
        label=label,
        map_tip=f"[% array_to_string(array_remove_all(array({tips}), NULL), '<br>') %]",
        tile=f"scale($geometry, {step}, {step})",
        is_box=f"coalesce({is_box}, true)",
        small_box=f"if({is_box}, NULL, centroid($geometry))",
        steps=lambda category, name, values: _steps(style, category, name, values),
        static=_static,
        rgba=_rgba,
        polygon=_polygon,
        disc_mm=_DISC_MM,
        outline_mm=_OUTLINE_MM,
        tile_percent=_TILE_PERCENT,
    )


def sld_style(style: MapStyle, layer: str) -> str:
    """Return an SLD style with one rule per class for the layer of this name."""
    return _render("style.sld", style=style, layer=layer, unlike_label=UNLIKE_LABEL, gray=_GRAY)


def _render(template: str, **values: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("rsft.inference.writers", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template(template).render(outline=_OUTLINE, **values).strip()


def _categories(style: MapStyle) -> list[_Category]:
    categories = [_Category(name, name, color) for name, color in style.colors.items()]
    if style.has("ood"):
        categories.append(_Category(UNLIKE_LABEL, UNLIKE_LABEL, _GRAY))
    if style.has("probability"):
        high, middle, _ = _PROBABILITY_LIMITS
        labels = (f"probability {high:g} or more", f"{middle:g} to {high:g}", f"below {middle:g}")
        categories += [_Category(f"({label})", label, _OUTLINE, step) for step, label in enumerate(labels)]
    return categories


def _steps(style: MapStyle, category: _Category, name: str, values: tuple[float, ...]) -> dict[str, str]:
    """Return a property that depends on the probability. Chips unlike the training chips are never emphasized."""
    if category.step is not None or category.is_unlike or not style.has("probability"):
        return {}
    steps = zip(_PROBABILITY_LIMITS, values, strict=True)
    cases = [f'WHEN "probability" >= {limit:g} THEN {value:g}' for limit, value in steps]
    if style.has(CORRECTED_COLUMN):
        cases.insert(0, f"WHEN {_IS_CORRECTED} THEN {values[0]:g}")
    return {name: f"CASE {' '.join(cases)} END"}


def _static(category: _Category, values: tuple[float, ...]) -> float:
    """Return the value of a symbol whose chip is not known, as in the legend."""
    return values[2 if category.is_unlike else 1 if category.step is None else category.step]


def _polygon(category: _Category, alpha: int, outline_mm: float) -> dict[str, str]:
    return {
        "style": "b_diagonal" if category.is_unlike else "solid",
        "color": _rgba(category.color, 255 if category.is_unlike else alpha),
        "outline_color": _rgba(category.color, 255),
        "outline_width": f"{outline_mm:g}",
        "outline_style": "solid",
    }


def _rgba(color: str, alpha: int) -> str:
    return ",".join(str(int(color[start : start + 2], 16)) for start in (1, 3, 5)) + f",{alpha}"
