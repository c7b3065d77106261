"""Write styles with one color per class as SLD 1.1, for programs other than QGIS."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from rsft.inference.writers.map_style import CLASS_COLUMN, GRAY, OUTLINE, UNLIKE_COLUMN, UNLIKE_LABEL, MapStyle

_NAMESPACES = {
    "xmlns": "http://www.opengis.net/sld",
    "xmlns:se": "http://www.opengis.net/se",
    "xmlns:ogc": "http://www.opengis.net/ogc",
    "version": "1.1.0",
}


def sld_style(style: MapStyle, layer: str) -> str:
    """Return an SLD style with one rule per class.

    Args:
        style: colors and kind of the layer.
        layer: name of the layer.
    """
    root = Element("StyledLayerDescriptor", _NAMESPACES)
    named_layer = SubElement(root, "NamedLayer")
    SubElement(named_layer, "se:Name").text = layer
    rules = SubElement(SubElement(named_layer, "UserStyle"), "se:FeatureTypeStyle")
    points, marks_unlike = style.shape == "point", style.has(UNLIKE_COLUMN)
    for name, color in style.colors.items():
        rule = SubElement(rules, "se:Rule")
        SubElement(rule, "se:Name").text = name
        condition = SubElement(rule, "ogc:Filter")
        if marks_unlike:
            condition = SubElement(condition, "ogc:And")
            _add_equality(condition, UNLIKE_COLUMN, "false")
        _add_equality(condition, CLASS_COLUMN, name)
        _add_symbolizer(rule, color, points)
    if marks_unlike:
        rule = SubElement(rules, "se:Rule")
        SubElement(rule, "se:Name").text = UNLIKE_LABEL
        _add_equality(SubElement(rule, "ogc:Filter"), UNLIKE_COLUMN, "true")
        _add_symbolizer(rule, GRAY, points)
    return tostring(root, "unicode")


def _add_equality(condition: Element, column: str, value: str) -> None:
    equal = SubElement(condition, "ogc:PropertyIsEqualTo")
    SubElement(equal, "ogc:PropertyName").text = column
    SubElement(equal, "ogc:Literal").text = value


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
    SubElement(stroke, "se:SvgParameter", name="stroke").text = OUTLINE if points else color
    if points:
        SubElement(graphic, "se:Size").text = "9"
