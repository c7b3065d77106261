"""Every format is read back by another library."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pandas as pd
import pyogrio
import pytest
import shapely

from rsft.errors import RequestError
from rsft.predict.outputs import check_output, write_predictions

SQUARE = shapely.box(10, 50, 10.5, 50.5)
METADATA = {"bundle_sha256": "abc", "classes": ["ship", "Öltanker"]}


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


def test_geopackage(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.gpkg"
    notes = write_predictions(table(SQUARE, None), out, METADATA)
    assert notes == ["chips without usable georeference, so without geometry: 1 of 2"]
    frame = pyogrio.read_dataframe(out, layer="predictions")
    assert frame.crs == "EPSG:4326"
    assert list(frame.columns) == ["chip", "path", "class", "probability", "p_ship", "p_Öltanker", "geometry"]
    assert frame.geometry[0].equals(SQUARE)
    assert frame.geometry[1] is None
    with sqlite3.connect(out) as database:
        assert database.execute('SELECT chip, "class", "p_Öltanker" FROM predictions').fetchall() == [
            ("0.tif", "Öltanker", 0.75),
            ("1.tif", "Öltanker", 0.75),
        ]
        (metadata,) = database.execute("SELECT metadata FROM gpkg_metadata").fetchone()
    assert "bundle_sha256" in metadata
    assert [path.name for path in out.parent.iterdir()] == ["out.gpkg"]


def test_geopackage_without_outlines(tmp_path: Path) -> None:
    out = tmp_path / "out.gpkg"
    write_predictions(table(None), out, METADATA)
    with sqlite3.connect(out) as database:
        assert database.execute("SELECT table_name, data_type FROM gpkg_contents").fetchall() == [
            ("predictions", "attributes")
        ]


def test_geojson(tmp_path: Path) -> None:
    out = tmp_path / "out.geojson"
    write_predictions(table(SQUARE, None), out, METADATA)
    collection = json.loads(out.read_text(encoding="utf-8"))
    assert collection["metadata"] == METADATA
    first, second = collection["features"]
    assert shapely.geometry.shape(first["geometry"]).equals(SQUARE)
    assert second["geometry"] is None
    assert second["properties"]["p_ship"] == 0.25
    assert pyogrio.read_info(out)["features"] == 2


@pytest.mark.parametrize(("outline", "extra"), [(SQUARE, ["wkt"]), (None, [])])
def test_csv(tmp_path: Path, outline: shapely.Geometry | None, extra: list[str]) -> None:
    out = tmp_path / "out.CSV"
    write_predictions(table(outline), out, METADATA)
    frame = pd.read_csv(out)
    assert list(frame.columns) == ["chip", "path", "class", "probability", "p_ship", "p_Öltanker", *extra]
    assert frame.loc[0, "path"] == "d,1/0.tif"
    assert not extra or shapely.from_wkt(str(frame.loc[0, "wkt"])).equals(SQUARE)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("out.shp", "10 characters"), ("out.parquet", "no known format"), ("out", "no suffix"), ("folder.csv", "folder")],
)
def test_refused(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RequestError, match=reason):
        write_predictions(table(None), tmp_path / name, METADATA)


def test_columns_that_differ_in_case(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="p_cargo stand twice"):
        check_output(tmp_path / "out.gpkg", ["chip", "p_Cargo", "p_cargo"])
    check_output(tmp_path / "out.csv", ["chip", "p_Cargo", "p_cargo"])


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".csv"])
def test_overwrites_only_when_told(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    out.write_text("precious")
    with pytest.raises(RequestError, match="--overwrite"):
        write_predictions(table(None), out, METADATA)
    assert out.read_text() == "precious"
    write_predictions(table(None), out, METADATA, overwrite=True)
    assert len(pyogrio.read_dataframe(out)) == 1
