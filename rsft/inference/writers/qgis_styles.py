"""Write styles with one color per class, as QML for QGIS 3.26 or later and as SLD 1.1 for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement, tostring

CLASS_COLUMN = "class"
"""Name of the column that selects the color."""

_OUTLINE = "#202020"
_SLD = {
    "xmlns": "http://www.opengis.net/sld",
    "xmlns:se": "http://www.opengis.net/se",
    "xmlns:ogc": "http://www.opengis.net/ogc",
    "version": "1.1.0",
}


def qml_style(colors: Mapping[str, str], points: bool) -> str:
    """Return a QGIS style, with discs for points and transparent fills for polygons.

    Args:
        colors: color of each class as #rrggbb.
        points: whether the geometries are points.
    """
    root = Element("qgis", version="3.34.0", styleCategories="Symbology")
    renderer = SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=CLASS_COLUMN, symbollevels="0", forceraster="0"
    )
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for index, (name, color) in enumerate(colors.items()):
        category = {"symbol": str(index), "value": name, "label": name, "render": "true", "type": "string"}
        SubElement(categories, "category", category)
        symbol = SubElement(symbols, "symbol", name=str(index), type="marker" if points else "fill", alpha="1")
        layer = SubElement(symbol, "layer", {"class": "SimpleMarker" if points else "SimpleFill", "enabled": "1"})
        options = SubElement(layer, "Option", type="Map")
        for key, value in _symbol_options(color, points).items():
            SubElement(options, "Option", name=key, value=value, type="QString")
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + tostring(root, "unicode")


def sld_style(colors: Mapping[str, str], points: bool, layer: str) -> str:
    """Return an SLD style with one rule per class.

    Args:
        colors: color of each class as #rrggbb.
        points: whether the geometries are points.
        layer: name of the layer.
    """
    root = Element("StyledLayerDescriptor", _SLD)
    named_layer = SubElement(root, "NamedLayer")
    SubElement(named_layer, "se:Name").text = layer
    style = SubElement(SubElement(named_layer, "UserStyle"), "se:FeatureTypeStyle")
    for name, color in colors.items():
        rule = SubElement(style, "se:Rule")
        SubElement(rule, "se:Name").text = name
        equal = SubElement(SubElement(rule, "ogc:Filter"), "ogc:PropertyIsEqualTo")
        SubElement(equal, "ogc:PropertyName").text = CLASS_COLUMN
        SubElement(equal, "ogc:Literal").text = name
        _add_symbolizer(rule, color, points)
    return tostring(root, "unicode")


def _symbol_options(color: str, points: bool) -> dict[str, str]:
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
        "style": "solid",
        "color": _rgba(color, 90),
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
