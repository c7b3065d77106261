"""Write every format, and read it by another library."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import geopandas
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely

from rsft.errors import RequestError
from rsft.inference.writers.tables import PredictionLayer, check_output_path, write_prediction_table

SQUARE = shapely.box(10, 50, 10.5, 50.5)
POINT = shapely.Point(10, 50)
CLASSES = ("ship", "Öltanker")
METADATA = {"bundle_sha256": "abc", "recipe": "ships", "classes": list(CLASSES)}
COLUMNS = ["chip", "path", "class", "probability", "p_ship", "p_Öltanker"]
QGIS = {
    **{"id": "INTEGER", "f_table_catalog": "TEXT(256)", "f_table_schema": "TEXT(256)", "f_table_name": "TEXT(256)"},
    **{"f_geometry_column": "TEXT(256)", "styleName": "TEXT(30)", "styleQML": "TEXT", "styleSLD": "TEXT"},
    **{"useAsDefault": "BOOLEAN", "description": "TEXT", "owner": "TEXT(30)", "ui": "TEXT(30)"},
    "update_time": "DATETIME",
}
"""The table that QGIS makes when it saves a style in a GeoPackage (qgsogrprovider.cpp)."""


def table(*outlines: shapely.Geometry | None) -> pd.DataFrame:
    count = len(outlines)
    return pd.DataFrame(
        {
            "chip": [f"{index}.tif" for index in range(count)],
            "path": [f"d,1/{index}.tif" for index in range(count)],
            "class": ["Öltanker"] * count,
            "probability": [0.75] * count,
            "p_ship": [0.25] * count,
            "p_Öltanker": [0.75] * count,
            "geometry": pd.Series(outlines, dtype=object),
        }
    )


def write(
    out: Path, *outlines: shapely.Geometry | None, crs: str | None = "EPSG:4326", overwrite: bool = False
) -> Path:
    write_prediction_table(PredictionLayer(table(*outlines), crs, CLASSES, METADATA), out, overwrite=overwrite)
    return out


def test_geopackage(tmp_path: Path) -> None:
    out = write(tmp_path / "new" / "out.gpkg", SQUARE, None)
    frame = pyogrio.read_dataframe(out, layer="predictions")
    assert frame.crs == "EPSG:4326"
    assert list(frame.columns) == [*COLUMNS, "geometry"]
    assert frame.geometry[0].equals(SQUARE)
    assert frame.geometry[1] is None
    with sqlite3.connect(out) as database:
        assert database.execute('SELECT chip, "class", "p_Öltanker" FROM predictions').fetchall() == [
            ("0.tif", "Öltanker", 0.75),
            ("1.tif", "Öltanker", 0.75),
        ]
        metadata = dict(database.execute("SELECT key, value FROM rsft_metadata").fetchall())
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert metadata == {"bundle_sha256": "abc", "recipe": "ships", "classes": '["ship", "Öltanker"]'}
    assert [path.name for path in out.parent.iterdir()] == ["out.gpkg"]


def test_layers_of_a_geopackage(tmp_path: Path) -> None:
    out = write(tmp_path / "out.gpkg", SQUARE)
    kinds = dict(pyogrio.list_layers(out).tolist())
    assert kinds == {"predictions": "Polygon", "layer_styles": None, "rsft_metadata": None}
    assert pyogrio.read_dataframe(out, layer="rsft_metadata")["key"].tolist() == list(METADATA)


def test_geopackage_by_fiona(tmp_path: Path) -> None:
    fiona = pytest.importorskip("fiona")
    with fiona.open(write(tmp_path / "out.gpkg", POINT), layer="predictions") as layer:
        (feature,) = list(layer)
        assert feature["properties"]["class"] == "Öltanker" and feature["geometry"]["coordinates"] == (10, 50)
        assert layer.crs.to_epsg() == 4326


def test_geopackage_by_ogrinfo(tmp_path: Path) -> None:
    if shutil.which("ogrinfo") is None:
        pytest.skip("ogrinfo is not on this machine (Debian: gdal-bin)")
    command = ["ogrinfo", "-al", write(tmp_path / "out.gpkg", POINT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "POINT (10 50)" in done.stdout and "class (String) = Öltanker" in done.stdout
    assert "Layer name: layer_styles" in done.stdout and "bundle_sha256" in done.stdout
    assert "Warning" not in done.stderr and "ERROR" not in done.stderr


@pytest.mark.parametrize(("shape", "kind", "symbolizer"), [(SQUARE, "fill", "Polygon"), (POINT, "marker", "Point")])
def test_qgis_style(tmp_path: Path, shape: shapely.Geometry, kind: str, symbolizer: str) -> None:
    out = write(tmp_path / "out.gpkg", shape)
    with sqlite3.connect(out) as database:
        columns = {name: kind for _, name, kind, *_ in database.execute("PRAGMA table_info(layer_styles)")}
        (geometry,) = database.execute("SELECT column_name FROM gpkg_geometry_columns").fetchone()
        query = "SELECT styleQML, styleSLD, useAsDefault FROM layer_styles WHERE f_table_schema = '' AND "
        query += "f_table_catalog = '' AND f_table_name = ? AND f_geometry_column = ? AND update_time NOT NULL"
        qml, sld, default = database.execute(query, ("predictions", geometry)).fetchone()
    assert columns == QGIS and default == 1
    renderer = ElementTree.fromstring(qml.split("\n", 1)[1]).find("renderer-v2")
    assert renderer is not None and (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "class")
    assert [(node.get("value"), node.get("symbol")) for node in renderer.iter("category")] == [
        ("ship", "0"),
        ("Öltanker", "1"),
    ]
    assert [(node.get("name"), node.get("type")) for node in renderer.iter("symbol")] == [("0", kind), ("1", kind)]
    assert "<!DOCTYPE qgis" in qml and f"{symbolizer}Symbolizer" in sld
    assert ElementTree.fromstring(sld).tag == "{http://www.opengis.net/sld}StyledLayerDescriptor"


@pytest.mark.parametrize(("shape", "pattern"), [(SQUARE, "b_diagonal"), (POINT, None)])
def test_chips_unlike_the_training_chips_are_gray(tmp_path: Path, shape: shapely.Geometry, pattern: str | None) -> None:
    marked = table(shape, shape).assign(ood=[True, False])
    write_prediction_table(PredictionLayer(marked, "EPSG:4326", CLASSES, METADATA), tmp_path / "out.gpkg")
    with sqlite3.connect(tmp_path / "out.gpkg") as database:
        qml, sld = database.execute("SELECT styleQML, styleSLD FROM layer_styles").fetchone()
    renderer = ElementTree.fromstring(qml.split("\n", 1)[1]).find("renderer-v2")
    assert renderer is not None
    assert renderer.get("attr") == 'if("ood", \'unlike the training chips\', "class")'
    assert [node.get("label") for node in renderer.iter("category")] == [
        "ship",
        "Öltanker",
        "unlike the training chips",
    ]
    last = list(renderer.iter("symbol"))[-1]
    options = {node.get("name"): node.get("value") for node in last.iter("Option")}
    assert options["color"] == "140,140,140,255" and options.get("style") == pattern
    rules = ElementTree.fromstring(sld).findall(".//{*}Rule")
    literals = [[node.text for node in rule.iter("{http://www.opengis.net/ogc}Literal")] for rule in rules]
    assert literals == [["false", "ship"], ["false", "Öltanker"], ["true"]]


def test_geopackage_without_outlines(tmp_path: Path) -> None:
    out = write(tmp_path / "out.gpkg", None)
    with sqlite3.connect(out) as database:
        contents = database.execute("SELECT table_name, data_type FROM gpkg_contents").fetchall()
    assert contents == [("predictions", "attributes"), ("rsft_metadata", "attributes")]


def test_geopackage_in_pixels(tmp_path: Path) -> None:
    frame = pyogrio.read_dataframe(write(tmp_path / "out.gpkg", shapely.Point(3, -4), crs=None), layer="predictions")
    assert frame.geometry[0].wkt == "POINT (3 -4)" and (frame.crs is None or not frame.crs.is_geographic)


def test_geojson(tmp_path: Path) -> None:
    out = write(tmp_path / "out.geojson", SQUARE, None)
    collection = json.loads(out.read_text(encoding="utf-8"))
    assert collection["metadata"] == METADATA
    first, second = collection["features"]
    assert shapely.geometry.shape(first["geometry"]).equals(SQUARE)
    assert second["geometry"] is None
    assert second["properties"]["p_ship"] == 0.25
    assert pyogrio.read_info(out)["features"] == 2


def test_geojson_holds_no_nan_and_no_pixels(tmp_path: Path) -> None:
    rows = table(SQUARE, SQUARE).assign(length_m=[1.5, float("nan")])
    write_prediction_table(PredictionLayer(rows, None, CLASSES, METADATA), tmp_path / "out.geojson")
    first, second = json.loads((tmp_path / "out.geojson").read_text(), parse_constant=pytest.fail)["features"]
    assert first["geometry"] is None and second["properties"]["length_m"] is None


@pytest.mark.parametrize("crs", ["EPSG:4326", None])
def test_geoparquet(tmp_path: Path, crs: str | None) -> None:
    out = write(tmp_path / "out.parquet", SQUARE, None, crs=crs)
    frame = geopandas.read_parquet(out)
    assert frame.crs == crs and frame.geometry[0].equals(SQUARE) and list(frame.columns) == [*COLUMNS, "geometry"]
    assert json.loads(pq.read_schema(out).metadata[b"rsft"]) == METADATA


@pytest.mark.parametrize(("outline", "extra"), [(SQUARE, ["wkt"]), (None, [])])
def test_csv(tmp_path: Path, outline: shapely.Geometry | None, extra: list[str]) -> None:
    frame = pd.read_csv(write(tmp_path / "out.CSV", outline))
    assert list(frame.columns) == [*COLUMNS, *extra]
    assert frame.loc[0, "path"] == "d,1/0.tif"
    assert not extra or shapely.from_wkt(str(frame.loc[0, "wkt"])).equals(SQUARE)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("out.shp", "10 characters"), ("out.feather", "unknown format"), ("out", "no suffix"), ("folder.csv", "folder")],
)
def test_refused(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RequestError, match=reason):
        write(tmp_path / name, None)


def test_columns_that_only_differ_in_case(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="duplicates: p_cargo"):
        check_output_path(tmp_path / "out.gpkg", ["chip", "p_Cargo", "p_cargo"])
    check_output_path(tmp_path / "out.csv", ["chip", "p_Cargo", "p_cargo"])


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".csv"])
def test_overwrites_only_on_request(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    out.write_text("precious")
    with pytest.raises(RequestError, match="--overwrite"):
        write(out, None)
    assert out.read_text() == "precious"
    write(out, SQUARE, overwrite=True)
    readers = {".parquet": geopandas.read_parquet, ".gpkg": partial(pyogrio.read_dataframe, layer="predictions")}
    read = readers.get(suffix, pyogrio.read_dataframe)
    assert len(read(out)) == 1
