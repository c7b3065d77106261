"""Write the symbols of a QGIS style: discs, boxes that become discs at small scales, and tiles without overlap.

Write the names of fields, the list of corrections, labels and map tips of a QGIS style.

Write a style for QGIS 3.26 or later: symbols, names of fields, labels and map tips.

Write styles with one color per class as SLD 1.1, for programs other than QGIS.

What a map of predictions shows: colors of the classes, the kind of geometry, and the columns.

Choose one color per class, for QGIS and for the review page.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

CLASS_COLUMN, PROBABILITY_COLUMN, UNLIKE_COLUMN, CORRECTED_COLUMN = "class", "probability", "ood", "corrected"
"""Columns that select the color, the opacity and the gray category, and the column of corrections by an analyst."""

NOT_A_TARGET, UNSURE = "not a target", "unsure"
"""Values in the column of corrections, beside the names of the classes."""

UNLIKE_LABEL = "unlike the training chips"
"""Label of chips whose class should not be trusted. They are gray, and hatched if they are polygons."""

Shape = Literal["point", "box", "tile"]

OUTLINE, GRAY = "#202020", "#8c8c8c"


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


_ALIASES = {
    "chip": "Chip",
    "scene": "Scene",
    "path": "File of the pixels",
    CLASS_COLUMN: "Class",
    CORRECTED_COLUMN: "Corrected class",
    PROBABILITY_COLUMN: "Probability (0 to 1)",
    "class_2": "Second class",
    "probability_2": "Probability of the second class (0 to 1)",
    "class_set": "Class set",
    UNLIKE_COLUMN: "Unlike the training chips",
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
_QGIS_NULL = "{2839923C-8B7D-419E-B84B-CA2FE9B80EC7}"  # stands for NULL in a list of values
_AROUND_POINT, _OUTSIDE_POLYGON = "6", "8"
_SMALLEST_LABELED_SCALE = 50_000  # of points


def column_alias(column: str, classes: frozenset[str]) -> str | None:
    """Return the name of a column for readers, with its unit; None for attributes of positions.

    Args:
        column: name of the column.
        classes: names of the classes.
    """
    if column.startswith("p_") and column[2:] in classes:
        return f"Probability of {column[2:]}"
    return _ALIASES.get(column)


def add_fields(root: Element, style: MapStyle) -> None:
    """Add names of fields, and the list from which an analyst chooses a correction.

    Args:
        root: the element of the style.
        style: columns and classes of the layer.
    """
    if style.has(CORRECTED_COLUMN):
        field = SubElement(SubElement(root, "fieldConfiguration"), "field", name=CORRECTED_COLUMN)
        widget = SubElement(SubElement(field, "editWidget", type="ValueMap"), "config")
        values = SubElement(SubElement(widget, "Option", type="Map"), "Option", name="map", type="List")
        choices = {name: name for name in (*style.colors, NOT_A_TARGET, UNSURE)}
        for label, value in {"": _QGIS_NULL, **choices}.items():
            choice = SubElement(values, "Option", type="Map")
            SubElement(choice, "Option", name=label, value=value, type="QString")
    aliases, classes = SubElement(root, "aliases"), frozenset(style.colors)
    for index, column in enumerate(style.columns):
        if alias := column_alias(column, classes):
            SubElement(aliases, "alias", field=column, name=alias, index=str(index))


def add_map_tip(root: Element, style: MapStyle) -> None:
    """Add the text that QGIS shows when the mouse rests on a chip.

    Args:
        root: the element of the style.
        style: columns of the layer.
    """
    texts = {
        PROBABILITY_COLUMN: f"'probability ' || format_number(\"{PROBABILITY_COLUMN}\", 2)",
        "class_2": "'or: ' || \"class_2\" || ' (' || format_number(\"probability_2\", 2) || ')'",
        "class_set": "'class set: ' || \"class_set\"",
        UNLIKE_COLUMN: f"if(\"{UNLIKE_COLUMN}\", '{UNLIKE_LABEL}', NULL)",
        "length_m": "'length: ' || format_number(\"length_m\", 0) || ' m'",
        CORRECTED_COLUMN: f"'corrected: ' || \"{CORRECTED_COLUMN}\"",
    }
    lines = ", ".join([f"'<b>' || \"{CLASS_COLUMN}\" || '</b>'", *(texts[name] for name in texts if style.has(name))])
    SubElement(
        root, "mapTip", enabled="1"
    ).text = f"[% array_to_string(array_remove_all(array({lines}), NULL), '<br>') %]"
    SubElement(root, "previewExpression").text = f'"{CLASS_COLUMN}"'


def add_labels(root: Element, style: MapStyle) -> None:
    """Add labels with class and probability, at scales with room for them. Tiles have none, their color is enough.

    Args:
        root: the element of the style.
        style: columns and kind of the layer.
    """
    if style.shape == "tile":
        return
    text = f'"{CLASS_COLUMN}"'
    if style.has(PROBABILITY_COLUMN):
        text += f" || coalesce(' ' || round(100 * \"{PROBABILITY_COLUMN}\") || ' %', '')"
    if style.has(UNLIKE_COLUMN):
        text = f'if("{UNLIKE_COLUMN}", NULL, {text})'
    if style.has(CORRECTED_COLUMN):
        text = f'if({is_corrected_expression()}, "{CORRECTED_COLUMN}", {text})'
    settings = SubElement(SubElement(root, "labeling", type="simple"), "settings", calloutType="simple")
    font = {"fieldName": text, "isExpression": "1", "fontSize": "9", "fontSizeUnit": "Point", "fontWeight": "75"}
    writing = SubElement(settings, "text-style", font, textColor="0,0,0,255", textOpacity="1")
    halo = {
        "bufferDraw": "1",
        "bufferSize": "0.7",
        "bufferSizeUnits": "MM",
        "bufferColor": "255,255,255,255",
        "bufferNoFill": "1",
    }
    SubElement(writing, "text-buffer", halo, bufferOpacity="1")
    point = style.shape == "point"
    SubElement(
        settings, "placement", placement=_AROUND_POINT if point else _OUTSIDE_POLYGON, dist="1.5", distUnits="MM"
    )
    rendering = {
        "scaleVisibility": "1" if point and style.in_degrees else "0",
        "scaleMax": str(_SMALLEST_LABELED_SCALE),
        "scaleMin": "0",
    }
    SubElement(settings, "rendering", rendering, drawLabels="1", obstacle="1")
    if not point:
        shown = f"coalesce({box_size_expression(style)} >= {SMALLEST_BOX_MM}, true)"
        add_properties(settings, {"Show": shown}, "dd_properties")


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


_OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#cc79a7", "#f0e442")
"""Colors that color-blind readers can distinguish (Okabe and Ito 2008), without black, which is used for outlines."""

_GOLDEN_RATIO = 0.618034  # a step in hue by the golden ratio puts every new hue into the widest gap


def class_colors(classes: Sequence[str]) -> dict[str, str]:
    """Choose a color for every class, by its index in the bundle.

    Args:
        classes: names of the classes.

    Returns:
        Color of each class as #rrggbb.
    """
    return {name: _color(index) for index, name in enumerate(classes)}


def _color(index: int) -> str:
    if index < len(_OKABE_ITO):
        return _OKABE_ITO[index]
    step = index - len(_OKABE_ITO)
    value = (0.85, 0.6)[step % 2]
    red, green, blue = (round(255 * x) for x in colorsys.hsv_to_rgb(step * _GOLDEN_RATIO % 1, 0.65, value))
    return f"#{red:02x}{green:02x}{blue:02x}"
