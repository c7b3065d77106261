"""Predictions as GeoJSON."""

import json

import pyogrio
import pytest
import shapely

from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.tables import (
    write_prediction_table,
)
from tests.helpers.prediction_tables import (
    CLASSES,
    METADATA,
    SQUARE,
    table,
    write,
)


def test_geojson(tmp_path):
    out = write(tmp_path / "out.geojson", SQUARE, None)
    collection = json.loads(out.read_text(encoding="utf-8"))
    assert collection["metadata"] == METADATA
    first, second = collection["features"]
    assert shapely.geometry.shape(first["geometry"]).equals(SQUARE)
    assert second["geometry"] is None
    assert (
        second["properties"]["p_ship"] == 0.25
        and second["properties"]["corrected"] is None
    )
    assert (tmp_path / "out.qml").read_text("utf-8").startswith("<!DOCTYPE qgis")
    assert pyogrio.read_info(out)["features"] == 2


def test_geojson_holds_no_nan_and_no_pixels(tmp_path):
    rows = table(SQUARE, SQUARE).assign(length_m=[1.5, float("nan")])
    write_prediction_table(
        PredictionLayer(rows, None, CLASSES, METADATA), tmp_path / "out.geojson"
    )
    first, second = json.loads(
        (tmp_path / "out.geojson").read_text(), parse_constant=pytest.fail
    )["features"]
    assert first["geometry"] is None and second["properties"]["length_m"] is None
    assert (
        not (tmp_path / "out.qml").exists() and "corrected" not in first["properties"]
    )


def test_a_stale_style_is_removed(tmp_path):
    write(tmp_path / "out.geojson", SQUARE)
    write(tmp_path / "out.geojson", None, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.geojson"]
