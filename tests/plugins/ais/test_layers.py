"""Layers of a match, their styles, and the chips that they make."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from xml.etree import ElementTree

import pyogrio
import pytest

from rsft.errors import RequestError
from rsft.plugins.ais.job import (
    match_scene,
)
from rsft.plugins.ais.layers import write_match
from rsft.plugins.ais.match import AisOptions
from rsft.scenes.query import CfarOptions
from tests.helpers.scene_stores import prepare

OPEN_SEA = CfarOptions(land="none")


LAYERS = ["matched", "no_ais", "ais_without_detection", "ambiguous", "shift"]


pytestmark = pytest.mark.slow


def ambiguous_match(traffic, **options):
    """Match two objects to one ship in the middle between them, and a third object to
    the ship at its place."""
    row, col = traffic.places[219000001]
    other = traffic.places[219000003]
    positions = traffic.ais.with_name("at.csv")
    positions.write_text(
        f"row,col\n{row},{col - 2}\n{row},{col + 2}\n{other[0]},{other[1]}\n"
    )
    return match_scene(
        traffic.scene, [traffic.ais], AisOptions(**options), at=positions
    )


def test_matched_objects_become_training_chips(traffic, tmp_path):
    """The layer of matched objects, after a review, is a file of labels."""
    write_match(
        ambiguous_match(traffic, min_confidence=0.5), tmp_path / "matches.gpkg", {}
    )
    options = {
        "layer": "matched",
        "field": "ais_class",
        "size": "32",
        "split": "object",
        "jobs": 1,
    }
    store = prepare(
        traffic.scene,
        tmp_path / "store",
        at=tmp_path / "matches.gpkg",
        val=0.5,
        **options,
    )
    assert sorted(zip(store.table["class"], store.table["mmsi"], strict=True)) == [
        ("fishing", "219000001"),
        ("tanker", "219000003"),
    ]


def test_layers(traffic, tmp_path):
    match = match_scene(traffic.scene, [traffic.ais], detector=OPEN_SEA)
    path = tmp_path / "matches.gpkg"
    write_match(match, path, {"scene": "x"})
    counts = {name: pyogrio.read_info(path, name)["features"] for name in LAYERS}
    assert counts == dict(zip(LAYERS, (3, 1, 1, 0, 2), strict=True))
    (arrow,) = pyogrio.read_dataframe(
        path, "shift", where="mmsi = 219000002"
    ).itertuples()
    (lon0, lat0), (_, lat1) = arrow.geometry.coords
    assert (lon0, lat0) == pytest.approx((arrow.lon, arrow.lat)) and lat1 > lat0
    with closing(sqlite3.connect(path)) as database:
        styles = dict(
            database.execute("SELECT f_table_name, styleQML FROM layer_styles")
        )
        metadata = dict(database.execute("SELECT key, value FROM rsft_metadata"))
    assert sorted(styles) == sorted(LAYERS)
    for name, style in styles.items():
        root = ElementTree.fromstring(style.partition("\n")[2])
        assert root.find("renderer-v2/categories") is not None, name
        kinds = {
            symbol.get("type") for symbol in root.findall("renderer-v2/symbols/symbol")
        }
        assert kinds == {"line" if name == "shift" else "marker"}
    assert {"cargo", "tanker", "fishing"} <= {
        x.get("label")
        for x in ElementTree.fromstring(styles["matched"].partition("\n")[2]).iter(
            "category"
        )
    }
    assert json.loads(metadata["counts"])["matched"] == 3
    with pytest.raises(RequestError, match="exists already"):
        write_match(match, path, {})
    with pytest.raises(RequestError, match=r"must be a \.gpkg file"):
        write_match(match, tmp_path / "x.csv", {})


def test_a_match_without_ships_has_all_layers(traffic, tmp_path):
    positions = traffic.ais.with_name("at.csv")
    positions.write_text("row,col\n60,500\n")
    match = match_scene(traffic.scene, [traffic.ais], at=positions)
    path = tmp_path / "matches.gpkg"
    write_match(match, path, {})
    assert [pyogrio.read_info(path, name)["features"] for name in LAYERS] == [
        0,
        1,
        4,
        0,
        2,
    ]
