"""The styles as XML. tests/qgis/test_maps.py draws them with QGIS."""

from xml.etree.ElementTree import fromstring

import pandas as pd
import pytest

from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.styles import class_colors, qml_style

CLASSES = ("ship", "Öltanker")
COLUMNS = [
    "class",
    "corrected",
    "probability",
    "ood",
    "p_ship",
    "length_m",
    "mmsi",
    "p_mine",
]
LONLAT = "EPSG:4326"


def layer(columns, shape="point", tile_step=None, crs=LONLAT):
    table = pd.DataFrame(columns=[*columns, "geometry"])
    return PredictionLayer(
        table, crs, CLASSES, {}, "Point" if shape == "point" else "Polygon", tile_step
    )


def parse(style):
    return fromstring(qml_style(style))


def labels(root):
    return [node.get("label") for node in root.iter("category")]


def test_a_table_with_classes_alone():
    root = parse(layer(["class"]))
    renderer = root.find("renderer-v2")
    assert renderer is not None and (renderer.get("type"), renderer.get("attr")) == (
        "categorizedSymbol",
        '"class"',
    )
    assert (
        labels(root) == ["ship", "Öltanker"] and root.find("fieldConfiguration") is None
    )
    assert root.find(".//data_defined_properties") is None


@pytest.mark.parametrize(
    ("shape", "kinds"),
    [("point", {"marker"}), ("box", {"fill", "marker"}), ("tile", {"fill"})],
)
def test_symbols(shape, kinds):
    root = parse(layer(COLUMNS, shape, 0.5 if shape == "tile" else None))
    assert labels(root)[2:] == [
        "unlike the training chips",
        "probability 0.9 or more",
        "0.6 to 0.9",
        "below 0.6",
    ]
    assert {node.get("type") for node in root.iter("symbol")} == kinds
    assert len(root.findall("renderer-v2/symbols/symbol")) == 6
    assert (
        root.find("featureBlendMode") is not None,
        root.get("labelsEnabled") == "0",
    ) == (shape == "tile",) * 2
    names = {node.get("name") for node in root.iter("symbol")}
    assert len(names) == len(list(root.iter("symbol")))


def test_names_of_fields_and_choices():
    root = parse(layer(COLUMNS))
    aliases = {node.get("field"): node.get("name") for node in root.iter("alias")}
    assert (
        aliases["length_m"] == "Length (m)"
        and aliases["p_ship"] == "Probability of ship"
    )
    assert not aliases.keys() & {"mmsi", "p_mine"}
    choices = [
        node.get("name")
        for node in root.findall("fieldConfiguration//Option/Option/Option/Option")
    ]
    assert choices == ["", "ship", "Öltanker", "not a target", "unsure"]


def test_boxes_in_pixels():
    text = qml_style(layer(COLUMNS, "box", crs=None))
    assert "@map_scale" not in text
    assert "@map_scale" in qml_style(layer(COLUMNS, "box"))


def test_no_text_in_a_tip_is_html():
    """A name of a class could load an image from a server when the mouse is over it."""
    tip = parse(layer(COLUMNS)).findtext("mapTip")
    assert tip is not None
    for column in ("class", "corrected", "ood"):
        start = tip.partition(f'"{column}"')[0]
        assert start.count("replace(replace(") > start.count("'<', '&lt;')")


def test_every_class_has_its_own_color():
    names = [str(number) for number in range(12)]
    colors = class_colors(names)
    assert list(colors) == names and len(set(colors.values())) == 12
    assert class_colors(["a"]) == {"a": "#e69f00"}
    assert [colors[name] for name in ("6", "7", "8")] == [
        "#f0e442",
        "#d94c4c",
        "#365399",
    ]
