"""Write the symbols of a QGIS style: discs, boxes that become discs at small scales, and tiles without overlap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement

from rsft.inference.writers.map_style import (
    CLASS_COLUMN,
    CORRECTED_COLUMN,
    GRAY,
    OUTLINE,
    PROBABILITY_COLUMN,
    UNLIKE_COLUMN,
    UNLIKE_LABEL,
    UNSURE,
    MapStyle,
)

_PROBABILITY_LIMITS = (0.9, 0.6, 0.0)
_DISC_MM, _OUTLINE_MM, _TILE_PERCENT = (4.2, 3.2, 2.4), (1.0, 0.6, 0.35), (100, 70, 40)
"""Diameters, widths and opacities for probabilities above each limit: few steps, which readers can tell apart. Small
symbols vary in size, because transparent ones lose their hue on a dark scene. Areas vary in opacity."""

SMALLEST_BOX_MM = 3  # a box that is smaller on the screen is drawn as a disc
_BOX_ALPHA = 50
_METERS_PER_DEGREE = 111_320
_MAP_WIDTH_MM = 250


class _Category(NamedTuple):
    """One entry of the legend. With a step it explains the size or opacity, and no chip belongs to it."""

    value: str
    label: str
    color: str
    step: int | None = None

    @property
    def is_unlike(self) -> bool:
        return self.value == UNLIKE_LABEL


def is_corrected_expression() -> str:
    """Return the QGIS expression that is true if an analyst corrected or confirmed the class of a chip."""
    return f"coalesce(\"{CORRECTED_COLUMN}\", '') NOT IN ('', '{UNSURE}')"


def box_size_expression(style: MapStyle) -> str:
    """Return the QGIS expression of the size of a polygon on the map in millimeters.

    In pixels, the scale of the map has no meaning, and the width of the map is assumed.
    """
    if style.in_degrees:
        meters = f"{_METERS_PER_DEGREE} * sqrt(area($geometry) * cos(radians(y(centroid($geometry)))))"
        return f"1000 * {meters} / @map_scale"
    return f"{_MAP_WIDTH_MM} * sqrt(area($geometry)) / @map_extent_width"


def add_renderer(root: Element, style: MapStyle) -> None:
    """Add a renderer with one category per class. Less probable classes are fainter.

    Args:
        root: the element of the style.
        style: colors, columns and kind of the layer.
    """
    attributes = {"type": "categorizedSymbol", "attr": _category_expression(style)}
    renderer = SubElement(root, "renderer-v2", attributes, symbollevels="0", forceraster="0", enableorderby="0")
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for index, category in enumerate(_categories(style)):
        attributes = {"symbol": str(index), "value": category.value, "label": category.label}
        SubElement(categories, "category", attributes, render="true", type="string")
        _add_symbol(symbols, str(index), style, category)


def _category_expression(style: MapStyle) -> str:
    expression = f'"{CLASS_COLUMN}"'
    if style.has(UNLIKE_COLUMN):
        expression = f"if(\"{UNLIKE_COLUMN}\", '{UNLIKE_LABEL}', {expression})"
    if style.has(CORRECTED_COLUMN):
        expression = f'if({is_corrected_expression()}, "{CORRECTED_COLUMN}", {expression})'
    return expression


def _categories(style: MapStyle) -> Iterator[_Category]:
    for name, color in style.colors.items():
        yield _Category(name, name, color)
    if style.has(UNLIKE_COLUMN):
        yield _Category(UNLIKE_LABEL, UNLIKE_LABEL, GRAY)
    if style.has(PROBABILITY_COLUMN):
        high, middle, _ = _PROBABILITY_LIMITS
        labels = (f"probability {high:g} or more", f"{middle:g} to {high:g}", f"below {middle:g}")
        for step, label in enumerate(labels):
            yield _Category(f"({label})", label, OUTLINE, step)


def _steps(style: MapStyle, category: _Category, name: str, values: tuple[float, ...]) -> dict[str, str]:
    """Return a property that depends on the probability. Chips unlike the training chips are never emphasized."""
    if category.step is not None or category.is_unlike or not style.has(PROBABILITY_COLUMN):
        return {}
    steps = zip(_PROBABILITY_LIMITS, values, strict=True)
    cases = [f'WHEN "{PROBABILITY_COLUMN}" >= {limit:g} THEN {value:g}' for limit, value in steps]
    if style.has(CORRECTED_COLUMN):
        cases.insert(0, f"WHEN {is_corrected_expression()} THEN {values[0]:g}")
    return {name: f"CASE {' '.join(cases)} END"}


def _static(category: _Category, values: tuple[float, ...]) -> float:
    """Return the value of a symbol whose chip is not known, as in the legend."""
    step = 1 if category.step is None else category.step
    return values[2 if category.is_unlike else step]


def _add_symbol(symbols: Element, name: str, style: MapStyle, category: _Category) -> None:
    kind = "marker" if style.shape == "point" else "fill"
    symbol = SubElement(symbols, "symbol", name=name, type=kind, alpha="1", clip_to_extent="1")
    if style.shape == "point":
        _add_disc(symbol, style, category)
        return
    if style.shape == "tile":
        step = f"{style.tile_step:.6g}"
        tile = _add_generator(symbol, "Fill", f"scale($geometry, {step}, {step})")
        _add_tile(tile, f"@{name}@0", style, category)
        return
    is_box = f"{box_size_expression(style)} >= {SMALLEST_BOX_MM}"
    box = _add_layer(symbol, "SimpleFill", _polygon(category, _BOX_ALPHA, _static(category, _OUTLINE_MM)))
    widths = _steps(style, category, "outlineWidth", _OUTLINE_MM)
    add_properties(box, {"enabled": f"coalesce({is_box}, true)", **widths})
    disc = _add_generator(symbol, "Marker", f"if({is_box}, NULL, centroid($geometry))")
    inner = SubElement(disc, "symbol", name=f"@{name}@1", type="marker", alpha="1", clip_to_extent="1")
    _add_disc(inner, style, category)


def _add_disc(symbol: Element, style: MapStyle, category: _Category) -> None:
    options = {
        "name": "diamond" if category.is_unlike else "circle",
        "color": _rgba(category.color, 255),
        "size": f"{_static(category, _DISC_MM):g}",
        "size_unit": "MM",
        "outline_color": _rgba(OUTLINE, 255),
        "outline_width": "0.3",
        "outline_style": "solid",
    }
    add_properties(_add_layer(symbol, "SimpleMarker", options), _steps(style, category, "size", _DISC_MM))


def _add_tile(generator: Element, name: str, style: MapStyle, category: _Category) -> None:
    alpha = 1 if category.step is None else _TILE_PERCENT[category.step] / 100
    symbol = SubElement(generator, "symbol", name=name, type="fill", alpha=f"{alpha:g}", clip_to_extent="1")
    add_properties(symbol, _steps(style, category, "alpha", _TILE_PERCENT))
    _add_layer(symbol, "SimpleFill", _polygon(category, 255, 0.1))


def _add_generator(symbol: Element, kind: str, expression: str) -> Element:
    """Add a symbol layer that draws another geometry than that of the chip; return its element."""
    options = {"SymbolType": kind, "geometryModifier": expression, "units": "MapUnit"}
    return _add_layer(symbol, "GeometryGenerator", options)


def _add_layer(symbol: Element, kind: str, options: Mapping[str, str]) -> Element:
    layer = SubElement(symbol, "layer", {"class": kind, "enabled": "1", "pass": "0", "locked": "0"})
    element = SubElement(layer, "Option", type="Map")
    for key, value in options.items():
        SubElement(element, "Option", name=key, value=value, type="QString")
    return layer


def add_properties(parent: Element, expressions: Mapping[str, str], tag: str = "data_defined_properties") -> None:
    """Add properties that QGIS computes for each chip.

    Args:
        parent: the element that has the properties.
        expressions: name and QGIS expression of each property.
        tag: name of the element with the properties.
    """
    if not expressions:
        return
    root = SubElement(SubElement(parent, tag), "Option", type="Map")
    SubElement(root, "Option", name="name", value="", type="QString")
    properties = SubElement(root, "Option", name="properties", type="Map")
    for name, expression in expressions.items():
        entry = SubElement(properties, "Option", name=name, type="Map")
        SubElement(entry, "Option", name="active", value="true", type="bool")
        SubElement(entry, "Option", name="expression", value=expression, type="QString")
        SubElement(entry, "Option", name="type", value="3", type="int")  # an expression
    SubElement(root, "Option", name="type", value="collection", type="QString")


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
