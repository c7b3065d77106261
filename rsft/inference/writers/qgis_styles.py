"""Write styles with one color per class, as QML for QGIS 3.26 or later and as SLD 1.1 for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement, tostring

CLASS_COLUMN, UNLIKE_COLUMN = "class", "ood"
"""Names of the columns that select the color, and that mark chips unlike the training chips."""

UNLIKE_LABEL = "unlike the training chips"
"""Label of chips whose class should not be trusted. They are gray, and hatched if they are polygons."""

_OUTLINE, _GRAY = "#202020", "#8c8c8c"
_SLD = {
    "xmlns": "http://www.opengis.net/sld",
    "xmlns:se": "http://www.opengis.net/se",
    "xmlns:ogc": "http://www.opengis.net/ogc",
    "version": "1.1.0",
}


def qml_style(colors: Mapping[str, str], points: bool, marks_unlike: bool = False) -> str:
    """Return a QGIS style, with discs for points and transparent fills for polygons.

    Args:
        colors: color of each class as #rrggbb.
        points: whether the geometries are points.
        marks_unlike: whether the layer has the column `ood`; its chips get a category of their own.
    """
    root = Element("qgis", version="3.34.0", styleCategories="Symbology")
    attribute = f'if("{UNLIKE_COLUMN}", \'{UNLIKE_LABEL}\', "{CLASS_COLUMN}")' if marks_unlike else CLASS_COLUMN
    renderer = SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=attribute, symbollevels="0", forceraster="0"
    )
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    labels = {**colors, UNLIKE_LABEL: _GRAY} if marks_unlike else colors
    for index, (name, color) in enumerate(labels.items()):
        category = {"symbol": str(index), "value": name, "label": name, "render": "true", "type": "string"}
        SubElement(categories, "category", category)
        symbol = SubElement(symbols, "symbol", name=str(index), type="marker" if points else "fill", alpha="1")
        layer = SubElement(symbol, "layer", {"class": "SimpleMarker" if points else "SimpleFill", "enabled": "1"})
        options = SubElement(layer, "Option", type="Map")
        for key, value in _symbol_options(color, points, hatched=name == UNLIKE_LABEL).items():
            SubElement(options, "Option", name=key, value=value, type="QString")
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + tostring(root, "unicode")


def sld_style(colors: Mapping[str, str], points: bool, layer: str, marks_unlike: bool = False) -> str:
    """Return an SLD style with one rule per class.

    Args:
        colors: color of each class as #rrggbb.
        points: whether the geometries are points.
        layer: name of the layer.
        marks_unlike: whether the layer has the column `ood`; its chips get a rule of their own.
    """
    root = Element("StyledLayerDescriptor", _SLD)
    named_layer = SubElement(root, "NamedLayer")
    SubElement(named_layer, "se:Name").text = layer
    style = SubElement(SubElement(named_layer, "UserStyle"), "se:FeatureTypeStyle")
    for name, color in colors.items():
        rule = SubElement(style, "se:Rule")
        SubElement(rule, "se:Name").text = name
        condition = SubElement(rule, "ogc:Filter")
        if marks_unlike:
            condition = SubElement(condition, "ogc:And")
            _add_equality(condition, UNLIKE_COLUMN, "false")
        _add_equality(condition, CLASS_COLUMN, name)
        _add_symbolizer(rule, color, points)
    if marks_unlike:
        rule = SubElement(style, "se:Rule")
        SubElement(rule, "se:Name").text = UNLIKE_LABEL
        _add_equality(SubElement(rule, "ogc:Filter"), UNLIKE_COLUMN, "true")
        _add_symbolizer(rule, _GRAY, points)
    return tostring(root, "unicode")


def _add_equality(condition: Element, column: str, value: str) -> None:
    equal = SubElement(condition, "ogc:PropertyIsEqualTo")
    SubElement(equal, "ogc:PropertyName").text = column
    SubElement(equal, "ogc:Literal").text = value


def _symbol_options(color: str, points: bool, hatched: bool) -> dict[str, str]:
    if points:
        return {
            "name": "circle",
            "color": _rgba(color, 255),
            "size": "2.6",
            "size_unit": "MM",
            "outline_color": _rgba(_OUTLINE, 255),
            "outline_width": "0.2",
            "outline_style": "solid",
        }
    return {
        "style": "b_diagonal" if hatched else "solid",
        "color": _rgba(color, 255 if hatched else 90),
        "outline_color": _rgba(color, 255),
        "outline_width": "0.46",
        "outline_style": "solid",
    }


def _add_symbolizer(rule: Element, color: str, points: bool) -> None:
    if points:
        graphic = SubElement(SubElement(rule, "se:PointSymbolizer"), "se:Graphic")
        symbol = SubElement(graphic, "se:Mark")
        SubElement(symbol, "se:WellKnownName").text = "circle"
    else:
        symbol = SubElement(rule, "se:PolygonSymbolizer")
    fill, stroke = SubElement(symbol, "se:Fill"), SubElement(symbol, "se:Stroke")
    SubElement(fill, "se:SvgParameter", name="fill").text = color
    SubElement(fill, "se:SvgParameter", name="fill-opacity").text = "1" if points else "0.35"
    SubElement(stroke, "se:SvgParameter", name="stroke").text = _OUTLINE if points else color
    if points:
        SubElement(graphic, "se:Size").text = "9"


def _rgba(color: str, alpha: int) -> str:
    return ",".join(str(int(color[start : start + 2], 16)) for start in (1, 3, 5)) + f",{alpha}"
