"""Write a style for QGIS 3.26 or later: symbols, names of fields, labels and map tips."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

from rsft.inference.writers.map_style import MapStyle
from rsft.inference.writers.qgis_fields import add_fields, add_labels, add_map_tip
from rsft.inference.writers.qgis_symbols import add_renderer

_CATEGORIES = "Symbology|Labeling|Fields|Forms|MapTips|Rendering"
_REPLACE = "13"  # number of the blend mode in which the last tile that covers a pixel replaces earlier ones
_TILE_OPACITY = 0.6


def qml_style(style: MapStyle) -> str:
    """Return a QGIS style.

    Points are discs. Boxes are discs at small scales. Tiles are reduced to the step of the grid, so that they do not
    overlap, and are transparent as a layer. Chips unlike the training chips are gray, and hatched if they are polygons.
    Less probable classes have smaller discs, thinner outlines or fainter tiles.

    Args:
        style: colors, columns and kind of the layer.
    """
    labels = "0" if style.shape == "tile" else "1"
    root = Element("qgis", version="3.34.0", styleCategories=_CATEGORIES, labelsEnabled=labels)
    add_fields(root, style)
    add_renderer(root, style)
    add_labels(root, style)
    add_map_tip(root, style)
    if style.shape == "tile":
        SubElement(root, "featureBlendMode").text = _REPLACE
        SubElement(root, "layerOpacity").text = str(_TILE_OPACITY)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + tostring(root, "unicode")
