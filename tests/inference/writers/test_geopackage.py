"""Predictions as GeoPackage."""

import shutil
import sqlite3
import subprocess

import pyogrio
import pytest
import shapely

from rsft.errors import RequestError
from rsft.inference.writers.geopackage import select_rows
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.styles import qml_style
from rsft.inference.writers.tables import (
    check_output_path,
)
from tests.helpers.prediction_tables import (
    CLASSES,
    COLUMNS,
    METADATA,
    POINT,
    QGIS,
    SQUARE,
    table,
    write,
)


def test_geopackage(tmp_path):
    out = write(tmp_path / "new" / "out.gpkg", SQUARE, None)
    kinds = dict(pyogrio.list_layers(out).tolist())
    assert kinds == {
        "predictions": "Polygon",
        "layer_styles": None,
        "rsft_metadata": None,
    }
    frame = pyogrio.read_dataframe(out, layer="predictions")
    assert (
        list(frame.columns) == [*COLUMNS[:3], "corrected", *COLUMNS[3:], "geometry"]
        and frame.crs == "EPSG:4326"
    )
    assert (
        frame["corrected"].isna().all()
        and frame.geometry[0].equals(SQUARE)
        and frame.geometry[1] is None
    )
    with sqlite3.connect(out) as database:
        assert database.execute(
            'SELECT chip, "class", "p_Öltanker" FROM predictions'
        ).fetchall() == [
            ("0.tif", "Öltanker", 0.75),
            ("1.tif", "Öltanker", 0.75),
        ]
        metadata = dict(
            database.execute("SELECT key, value FROM rsft_metadata").fetchall()
        )
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert metadata == {
        "bundle_sha256": "abc",
        "recipe": "ships",
        "classes": '["ship", "Öltanker"]',
    }
    assert [path.name for path in out.parent.iterdir()] == ["out.gpkg"]


def test_geopackage_by_ogrinfo(tmp_path):
    if shutil.which("ogrinfo") is None:
        pytest.skip("ogrinfo is not on this machine (Debian: gdal-bin)")
    command = ["ogrinfo", "-al", write(tmp_path / "out.gpkg", POINT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "POINT (10 50)" in done.stdout and "class (String) = Öltanker" in done.stdout
    assert "Layer name: layer_styles" in done.stdout and "bundle_sha256" in done.stdout
    assert "Warning" not in done.stderr and "ERROR" not in done.stderr


def test_the_style_in_a_geopackage(tmp_path):
    out = write(tmp_path / "out.gpkg", SQUARE)
    with sqlite3.connect(out) as database:
        columns = {
            name: kind
            for _, name, kind, *_ in database.execute("PRAGMA table_info(layer_styles)")
        }
        (geometry,) = database.execute(
            "SELECT column_name FROM gpkg_geometry_columns"
        ).fetchone()
        query = (
            "SELECT styleQML, useAsDefault FROM layer_styles WHERE"
            " f_table_schema = '' AND "
        )
        query += (
            "f_table_catalog = '' AND f_table_name = ? AND f_geometry_column = ? AND"
            " update_time NOT NULL"
        )
        qml, default = database.execute(query, ("predictions", geometry)).fetchone()
    layer = PredictionLayer(
        table(SQUARE), "EPSG:4326", CLASSES, METADATA
    ).with_corrections()
    assert columns == QGIS and default == 1 and list(layer.table)[3] == "corrected"
    assert qml == qml_style(layer)


def test_geopackage_without_outlines(tmp_path):
    out = write(tmp_path / "out.gpkg", None)
    with sqlite3.connect(out) as database:
        contents = database.execute(
            "SELECT table_name, data_type FROM gpkg_contents"
        ).fetchall()
    assert contents == [("predictions", "attributes"), ("rsft_metadata", "attributes")]


def test_geopackage_in_pixels(tmp_path):
    frame = pyogrio.read_dataframe(
        write(tmp_path / "out.gpkg", shapely.Point(3, -4), crs=None),
        layer="predictions",
    )
    assert frame.geometry[0].wkt == "POINT (3 -4)" and (
        frame.crs is None or not frame.crs.is_geographic
    )


def test_columns_that_only_differ_in_case(tmp_path):
    with pytest.raises(RequestError, match="duplicates: p_cargo"):
        check_output_path(tmp_path / "out.gpkg", ["chip", "p_Cargo", "p_cargo"])
    check_output_path(tmp_path / "out.csv", ["chip", "p_Cargo", "p_cargo"])


def test_rows_are_only_read_and_not_for_ever(tmp_path):
    path = tmp_path / "a b.gpkg"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t AS SELECT 1 AS a, 'x' AS b")
    database.close()
    assert select_rows(path, "SELECT * FROM t") == [(1, "x")]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        select_rows(path, "DELETE FROM t")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n)"
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        select_rows(path, f"{endless} SELECT count(*) FROM n", seconds=0.02)
