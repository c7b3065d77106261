"""Write the names of fields, the list of corrections, labels and map tips of a QGIS style."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement

from rsft.inference.writers.map_style import (
    CLASS_COLUMN,
    CORRECTED_COLUMN,
    NOT_A_TARGET,
    PROBABILITY_COLUMN,
    UNLIKE_COLUMN,
    UNLIKE_LABEL,
    UNSURE,
    MapStyle,
)
from rsft.inference.writers.qgis_symbols import (
    SMALLEST_BOX_MM,
    add_properties,
    box_size_expression,
    is_corrected_expression,
)

_ALIASES = {
    "chip": "Chip",
    "scene": "Scene",
    "path": "File of the pixels",
    CLASS_COLUMN: "Class",
    CORRECTED_COLUMN: "Corrected class",
    PROBABILITY_COLUMN: "Probability (0 to 1)",
    "class_2": "Second class",
    "probability_2": "Probability of the second class (0 to 1)",
    "set": "Class set",
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
        "set": "'class set: ' || \"set\"",
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
