"""The style of a layer of predictions, a colour a class: QML as QGIS (3.26 and later) reads it, and SLD 1.1."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element, SubElement, tostring

COLUMN = "class"
_OUTLINE = "#202020"
_SLD = {
    "xmlns": "http://www.opengis.net/sld",
    "xmlns:se": "http://www.opengis.net/se",
    "xmlns:ogc": "http://www.opengis.net/ogc",
    "version": "1.1.0",
}


def qml(colours: Mapping[str, str], points: bool) -> str:
    """A categorised renderer on the column `class`: discs for points, see-through fills for outlines."""
    root = Element("qgis", version="3.34.0", styleCategories="Symbology")
    renderer = SubElement(root, "renderer-v2", type="categorizedSymbol", attr=COLUMN, symbollevels="0", forceraster="0")
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for index, (name, colour) in enumerate(colours.items()):
        category = {"symbol": str(index), "value": name, "label": name, "render": "true", "type": "string"}
        SubElement(categories, "category", category)
        symbol = SubElement(symbols, "symbol", name=str(index), type="marker" if points else "fill", alpha="1")
        layer = SubElement(symbol, "layer", {"class": "SimpleMarker" if points else "SimpleFill", "enabled": "1"})
        options = SubElement(layer, "Option", type="Map")
        for key, value in _look(colour, points).items():
            SubElement(options, "Option", name=key, value=value, type="QString")
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + tostring(root, "unicode")


def sld(colours: Mapping[str, str], points: bool, layer: str) -> str:
    """The same for other programs: a rule a class."""
    root = Element("StyledLayerDescriptor", _SLD)
    named = SubElement(root, "NamedLayer")
    SubElement(named, "se:Name").text = layer
    style = SubElement(SubElement(named, "UserStyle"), "se:FeatureTypeStyle")
    for name, colour in colours.items():
        rule = SubElement(style, "se:Rule")
        SubElement(rule, "se:Name").text = name
        equal = SubElement(SubElement(rule, "ogc:Filter"), "ogc:PropertyIsEqualTo")
        SubElement(equal, "ogc:PropertyName").text = COLUMN
        SubElement(equal, "ogc:Literal").text = name
        _paint(rule, colour, points)
    return tostring(root, "unicode")


def _look(colour: str, points: bool) -> dict[str, str]:
    if points:
        return {
            "name": "circle",
            "color": _rgba(colour, 255),
            "size": "2.6",
            "size_unit": "MM",
            "outline_color": _rgba(_OUTLINE, 255),
            "outline_width": "0.2",
            "outline_style": "solid",
        }
    return {
        "style": "solid",
        "color": _rgba(colour, 90),
        "outline_color": _rgba(colour, 255),
        "outline_width": "0.46",
        "outline_style": "solid",
    }


def _paint(rule: Element, colour: str, points: bool) -> None:
    if points:
        graphic = SubElement(SubElement(rule, "se:PointSymbolizer"), "se:Graphic")
        painted = SubElement(graphic, "se:Mark")
        SubElement(painted, "se:WellKnownName").text = "circle"
    else:
        painted = SubElement(rule, "se:PolygonSymbolizer")
    fill, stroke = SubElement(painted, "se:Fill"), SubElement(painted, "se:Stroke")
    SubElement(fill, "se:SvgParameter", name="fill").text = colour
    SubElement(fill, "se:SvgParameter", name="fill-opacity").text = "1" if points else "0.35"
    SubElement(stroke, "se:SvgParameter", name="stroke").text = _OUTLINE if points else colour
    if points:
        SubElement(graphic, "se:Size").text = "9"


def _rgba(colour: str, alpha: int) -> str:
    return ",".join(str(int(colour[place : place + 2], 16)) for place in (1, 3, 5)) + f",{alpha}"
