"""Write every format, and read it by another library."""

import json
import os
import shutil
import sqlite3
import subprocess
import zipfile
from functools import partial

import geopandas
import geoparquet_validator
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely

from rsft.errors import RequestError
from rsft.inference.corrections.corrected_table import read_table_file
from rsft.inference.writers import geoparquet
from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.styles import qml_style, sld_style
from rsft.inference.writers.table_format import find_format
from rsft.inference.writers.tables import (
    check_output_file,
    check_output_path,
    write_prediction_table,
)
from tests.helpers.messages import mentions

SQUARE = shapely.box(10, 50, 10.5, 50.5)
POINT = shapely.Point(10, 50)
CLASSES = ("ship", "Öltanker")
METADATA = {"bundle_sha256": "abc", "recipe": "ships", "classes": list(CLASSES)}
COLUMNS = ["chip", "path", "class", "probability", "p_ship", "p_Öltanker"]
QGIS = {
    **{
        "id": "INTEGER",
        "f_table_catalog": "TEXT(256)",
        "f_table_schema": "TEXT(256)",
        "f_table_name": "TEXT(256)",
    },
    **{
        "f_geometry_column": "TEXT(256)",
        "styleName": "TEXT(30)",
        "styleQML": "TEXT",
        "styleSLD": "TEXT",
    },
    **{
        "useAsDefault": "BOOLEAN",
        "description": "TEXT",
        "owner": "TEXT(30)",
        "ui": "TEXT(30)",
    },
    "update_time": "DATETIME",
}
"""The table that QGIS makes when it saves a style in a GeoPackage
(qgsogrprovider.cpp)."""


class Unprintable:
    """A value that cannot be written."""

    def __repr__(self):
        """Raise an error."""
        raise RuntimeError("the disk is full")

    __str__ = __repr__


def table(*outlines):
    names = [f"{index}.tif" for index in range(len(outlines))]
    rows = pd.DataFrame(
        {"chip": names, "path": [f"d,1/{name}" for name in names], "class": "Öltanker"}
    )
    rows = rows.assign(probability=0.75, p_ship=0.25, p_Öltanker=0.75)
    return rows.assign(geometry=pd.Series(outlines, dtype=object))


def write(out, *outlines, crs="EPSG:4326", overwrite=False):
    write_prediction_table(
        PredictionLayer(table(*outlines), crs, CLASSES, METADATA),
        out,
        overwrite=overwrite,
    )
    return out


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
            "SELECT styleQML, styleSLD, useAsDefault FROM layer_styles WHERE"
            " f_table_schema = '' AND "
        )
        query += (
            "f_table_catalog = '' AND f_table_name = ? AND f_geometry_column = ? AND"
            " update_time NOT NULL"
        )
        qml, sld, default = database.execute(
            query, ("predictions", geometry)
        ).fetchone()
    layer = PredictionLayer(
        table(SQUARE), "EPSG:4326", CLASSES, METADATA
    ).with_corrections()
    assert columns == QGIS and default == 1 and list(layer.table)[3] == "corrected"
    assert qml == qml_style(layer) and sld == sld_style(layer)


@pytest.mark.parametrize(
    ("shapes", "step", "kind"),
    [
        ((POINT, POINT), None, "point"),
        ((SQUARE, None), None, "box"),
        ((SQUARE,), 0.5, "tile"),
    ],
)
def test_kind_of_a_layer(shapes, step, kind):
    assert (
        PredictionLayer(table(*shapes), None, CLASSES, METADATA, tile_step=step).shape
        == kind
    )


def test_corrections_of_positions_are_kept(tmp_path):
    rows = table(POINT, POINT).assign(Corrected=["ship", None])
    write_prediction_table(
        PredictionLayer(rows, "EPSG:4326", CLASSES, METADATA), tmp_path / "out.gpkg"
    )
    frame = pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="predictions")
    assert (
        frame["Corrected"].fillna("").tolist() == ["ship", ""]
        and "corrected" not in frame
    )


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


@pytest.mark.parametrize("crs", ["EPSG:4326", None])
def test_geoparquet(tmp_path, crs):
    out = write(tmp_path / "out.parquet", SQUARE, None, crs=crs)
    frame = geopandas.read_parquet(out)
    assert (
        frame.crs == crs
        and frame.geometry[0].equals(SQUARE)
        and list(frame.columns) == [*COLUMNS, "geometry"]
    )
    metadata = pq.read_schema(out).metadata
    assert json.loads(metadata[b"rsft"]) == METADATA
    geo = json.loads(metadata[b"geo"])
    assert geo["version"] == "1.1.0" and geo["columns"]["geometry"]["covering"]["bbox"][
        "xmin"
    ] == ["bbox", "xmin"]
    assert pq.read_table(out)["bbox"][0].as_py() == {
        "xmin": 10,
        "ymin": 50,
        "xmax": 10.5,
        "ymax": 50.5,
    }
    assert len(geopandas.read_parquet(out, bbox=(0, 0, 11, 51))) == 1


@pytest.mark.parametrize(
    "shapes", [(SQUARE, None, POINT), (None, SQUARE), (SQUARE,), (None,), ()]
)
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633", None])
def test_geoparquet_conforms_to_its_specification(tmp_path, shapes, crs, monkeypatch):
    monkeypatch.setattr(geoparquet, "_ROW_GROUP", 2)
    out = write(tmp_path / "out.parquet", *shapes, crs=crs)
    frame = geopandas.read_parquet(out)
    assert frame["path"].tolist() == table(*shapes)["path"].tolist() and frame[
        "geometry"
    ].tolist() == [*shapes]
    assert pq.ParquetFile(out).num_row_groups == max(1, -(-len(shapes) // 2))
    report = geoparquet_validator.check(str(out))
    assert report["version"] == "1.1.0" and report["sampled"] is False
    assert not [
        name
        for group in ("core", "covering")
        for name in geoparquet_validator.failed(report, group)
    ]


def test_geoparquet_of_positions_with_a_bbox(tmp_path):
    rows = table(SQUARE).assign(bbox=["mine"])
    write_prediction_table(
        PredictionLayer(rows, "EPSG:4326", CLASSES, METADATA), tmp_path / "out.parquet"
    )
    assert geopandas.read_parquet(tmp_path / "out.parquet")["bbox"].tolist() == ["mine"]


@pytest.mark.parametrize(("outline", "extra"), [(SQUARE, ["wkt"]), (None, [])])
def test_csv(tmp_path, outline, extra):
    frame = pd.read_csv(write(tmp_path / "out.CSV", outline))
    assert list(frame.columns) == [*COLUMNS, *extra]
    assert frame.loc[0, "path"] == "d,1/0.tif"
    assert not extra or shapely.from_wkt(str(frame.loc[0, "wkt"])).equals(SQUARE)


def test_formulas_in_csv_come_back(tmp_path):
    rows = table(None, None).assign(
        **{"class": ["=cmd|' /C calc'!A0", "'+x"], "note": ["@a", "-5"]}
    )
    out = tmp_path / "out.csv"
    write_prediction_table(PredictionLayer(rows, None, CLASSES, METADATA), out)
    assert pd.read_csv(out)["class"].tolist() == ["'=cmd|' /C calc'!A0", "''+x"]
    again, _ = read_table_file(out, "")
    assert again["class"].tolist() == rows["class"].tolist() and again[
        "note"
    ].tolist() == ["@a", "-5"]


def write_excel(out, rows):
    write_prediction_table(PredictionLayer(rows, "EPSG:4326", CLASSES, METADATA), out)
    with zipfile.ZipFile(out) as file:
        return file.read("xl/worksheets/sheet1.xml").decode()


def test_excel_keeps_the_types_of_columns(tmp_path):
    rows = table(SQUARE, None).assign(
        ood=[True, False], at=pd.array([7, None], "Int64"), score=[np.inf, np.nan]
    )
    rows = rows.assign(
        day=pd.to_datetime(["2026-11-26T11:00:00+01:00", None]), id=[2**60 + 1, 5]
    )
    write_excel(tmp_path / "out.xlsx", rows)
    read = pd.read_excel(
        tmp_path / "out.xlsx",
        engine="calamine",
        sheet_name="predictions",
        dtype={"id": str},
    )
    names = ["ood", "at", "score", "day", "id"]
    assert (
        list(read.columns) == [*COLUMNS, "wkt", *names]
        and read["class"].tolist() == ["Öltanker"] * 2
    )
    assert read["probability"].tolist() == [0.75] * 2 and read["ood"].tolist() == [
        True,
        False,
    ]
    assert (
        read["at"][0] == 7
        and read[["at", "score", "wkt"]].iloc[1].isna().all()
        and np.isnan(read["score"][0])
    )
    assert read["day"][0] == pd.Timestamp("2026-11-26T10:00:00") and read[
        "id"
    ].tolist() == [str(2**60 + 1), "5"]
    assert shapely.from_wkt(read["wkt"][0]).equals(SQUARE)


def test_no_text_is_a_formula_in_excel(tmp_path):
    texts = ["=cmd|' /C calc'!A0", "+1+1", "@a", "a\x1b[2J\x00", "=1+1"]
    rows = table(*[None] * 5).assign(**{"class": texts, "=2+2": "{=3}"})
    sheet = write_excel(tmp_path / "out.xlsx", rows)
    assert (
        "<f>" not in sheet
        and "<f " not in sheet
        and 'state="frozen"' in sheet
        and 'topLeftCell="A2"' in sheet
    )
    read = pd.read_excel(tmp_path / "out.xlsx", engine="calamine")
    assert (
        read["class"].tolist() == [*texts[:3], r"a\x1b[2J\x00", "=1+1"]
        and read["=2+2"][0] == "{=3}"
    )


def test_what_does_not_fit_on_a_sheet_of_excel_is_refused(tmp_path, monkeypatch):
    out = tmp_path / "out.xlsx"
    find_format(out).check_size(out, 1_048_575, 16_384)
    find_format(tmp_path / "out.csv").check_size(out, 2_000_000, 20_000)
    for rows, columns in ((1_048_576, 3), (1, 16_385)):
        with pytest.raises(
            RequestError,
            match=mentions(
                f"{rows:,} rows", f"{columns:,} columns", "out.xlsx", ".csv"
            ),
        ):
            find_format(out).check_size(out, rows, columns)
    with pytest.raises(
        RequestError, match=mentions("32,768 letters", "32,767", "out.xlsx", ".gpkg")
    ):
        write_excel(out, table(None).assign(note="x" * 32_768))
    monkeypatch.setattr("rsft.inference.writers.excel._ROWS", 2)
    with pytest.raises(RequestError, match=mentions("2 rows", "out.xlsx")):
        write_excel(out, table(None, None))
    assert list(tmp_path.iterdir()) == []


def test_excel_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr("rsft.utils.dependencies.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=mentions("openpyxl", "rsft[excel]")):
        check_output_path(tmp_path / "out.xlsx", COLUMNS)


def test_types_of_csv_columns(tmp_path):
    rows = table(SQUARE).assign(
        ood=[True],
        at=pd.array([7], "Int64"),
        day=pd.to_datetime(["2026-11-26T10:00:00Z"]),
    )
    write_prediction_table(
        PredictionLayer(rows, "EPSG:4326", CLASSES, METADATA), tmp_path / "out.csv"
    )
    types = (tmp_path / "out.csvt").read_text()
    assert (
        types
        == '"String","String","String","Real","Real","Real","WKT","Integer(Boolean)","Integer64","DateTime"'
    )
    read = pyogrio.read_dataframe(tmp_path / "out.csv")
    assert (
        read.geometry[0].equals(SQUARE)
        and read["at"].tolist() == [7]
        and read["ood"].tolist() == [True]
    )
    assert read["probability"].dtype == "float64" and read["day"].dtype.kind == "M"


@pytest.mark.parametrize(
    ("name", "sidecar"), [("out.geojson", "out.qml"), ("out.csv", "out.csvt")]
)
def test_sidecars_belong_to_their_table(tmp_path, name, sidecar):
    (tmp_path / sidecar).write_text("precious")
    with pytest.raises(RequestError, match=sidecar):
        write(tmp_path / name, SQUARE)
    assert (
        not (tmp_path / name).exists()
        and (tmp_path / sidecar).read_text() == "precious"
    )
    write(tmp_path / name, SQUARE, overwrite=True)
    assert (tmp_path / sidecar).read_text("utf-8") not in ("", "precious")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, sidecar])


def test_a_stale_style_is_removed(tmp_path):
    write(tmp_path / "out.geojson", SQUARE)
    write(tmp_path / "out.geojson", None, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.geojson"]


@pytest.mark.parametrize("name", ["out.geojson", "out.csv"])
def test_a_failure_leaves_neither_table_nor_sidecar(tmp_path, name):
    rows = table(SQUARE).assign(broken=[Unprintable()])
    with pytest.raises((RuntimeError, AttributeError)):
        write_prediction_table(
            PredictionLayer(rows, "EPSG:4326", CLASSES, METADATA), tmp_path / name
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("out.shp", "10 characters"),
        ("out.feather", "unknown format"),
        ("out", "no suffix"),
        ("folder.csv", "folder"),
    ],
)
def test_refused(tmp_path, name, reason):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RequestError, match=reason):
        write(tmp_path / name, None)


def test_columns_that_only_differ_in_case(tmp_path):
    with pytest.raises(RequestError, match="duplicates: p_cargo"):
        check_output_path(tmp_path / "out.gpkg", ["chip", "p_Cargo", "p_cargo"])
    check_output_path(tmp_path / "out.csv", ["chip", "p_Cargo", "p_cargo"])


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_keeps_labels_that_an_analyst_entered(tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    layer = PredictionLayer(
        table(SQUARE, SQUARE), "EPSG:4326", CLASSES, METADATA
    ).with_corrections()
    write_prediction_table(layer, out)
    write_prediction_table(layer, out, overwrite=True)  # no label yet
    labeled = layer._replace(table=layer.table.assign(corrected=["ship", " "]))
    write_prediction_table(labeled, out, overwrite=True)
    before = out.read_bytes()
    with pytest.raises(RequestError, match=mentions("1 labels", "corrected")) as caught:
        check_output_path(out, COLUMNS, overwrite=True)
    assert "rsft data add" in str(caught.value)
    assert out.read_bytes() == before
    out.write_bytes(b"damaged")
    write(out, SQUARE, overwrite=True)
    assert len(pyogrio.read_dataframe(out)) == 1


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
@pytest.mark.parametrize(
    ("column", "cells", "count"),
    [("corrected", [3, 0], 2), ("Corrected", ["ship"] * 2, 0)],
)
def test_only_the_column_of_corrections_is_kept(tmp_path, suffix, column, cells, count):
    out = tmp_path / f"out{suffix}"
    rows = table(SQUARE, SQUARE).assign(**{column: cells})
    write_prediction_table(PredictionLayer(rows, "EPSG:4326", CLASSES, METADATA), out)
    if count:
        with pytest.raises(RequestError, match=f"{count} labels"):
            check_output_path(out, COLUMNS, overwrite=True)
    else:
        check_output_path(out, COLUMNS, overwrite=True)


@pytest.mark.parametrize(
    "content",
    [b"[" * 10**6, b"[]", b'{"features": [{"properties": null}]}', b"\xff", None],
)
def test_a_damaged_layer_has_no_corrections(tmp_path, content):
    for out in (tmp_path / "out.geojson", tmp_path / "out.gpkg"):
        os.mkfifo(out) if content is None else out.write_bytes(content)
        check_output_path(out, COLUMNS, overwrite=True)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet", ".csv"])
def test_overwrites_only_on_request(tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    out.write_text("precious")
    with pytest.raises(RequestError, match="--overwrite"):
        write(out, None)
    assert out.read_text() == "precious"
    write(out, SQUARE, overwrite=True)
    readers = {
        ".parquet": geopandas.read_parquet,
        ".gpkg": partial(pyogrio.read_dataframe, layer="predictions"),
    }
    read = readers.get(suffix, pyogrio.read_dataframe)
    assert len(read(out)) == 1


def test_new_files(tmp_path):
    (tmp_path / "a.csv").touch()
    check_output_file(tmp_path / "a.csv", (".csv",), overwrite=True)
    for path, message in {
        "a.csv": "exists already",
        "a.gpkg": "must be a .csv file",
    }.items():
        with pytest.raises(RequestError, match=message):
            check_output_file(tmp_path / path, (".csv",), overwrite=False)
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(RequestError, match="is a folder"):
        check_output_file(tmp_path / "d.csv", (".csv",), overwrite=True)
