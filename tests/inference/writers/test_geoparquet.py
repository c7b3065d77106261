"""Predictions as GeoParquet."""

import json

import geopandas
import geoparquet_validator
import pyarrow.parquet as pq
import pytest

from rsft.inference.writers.layer import PredictionLayer
from rsft.inference.writers.tables import (
    write_prediction_table,
)
from tests.helpers.prediction_tables import (
    CLASSES,
    COLUMNS,
    METADATA,
    POINT,
    SQUARE,
    table,
    write,
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
    assert pq.read_schema(out).names == [*COLUMNS, "geometry", "bbox"]
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
def test_geoparquet_conforms_to_its_specification(tmp_path, shapes, crs):
    out = write(tmp_path / "out.parquet", *shapes, crs=crs)
    frame = geopandas.read_parquet(out)
    assert frame["path"].tolist() == table(*shapes)["path"].tolist() and frame[
        "geometry"
    ].tolist() == [*shapes]
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
