"""Layers of a GIS as annotations: identities, types and layers."""

import json
from pathlib import Path

import geopandas
import pyarrow as pa
import pytest
import shapely

from rsft.data.annotations.base import read_annotations
from rsft.data.annotations.images import NoAnnotationsError, find_annotations
from rsft.data.annotations.layers import convert_columns
from rsft.errors import RequestError
from tests.helpers.messages import mentions
from tests.helpers.vector_layers import CellHere


@pytest.fixture(autouse=True)
def _layers_are_read_here(monkeypatch):
    monkeypatch.setattr("rsft.data.imagery.vectors.ReaderCell", CellHere)


def feature(x, properties=None, **members):
    geometry = {"type": "Point", "coordinates": [x, 50]}
    return {
        "type": "Feature",
        "geometry": geometry,
        "properties": properties or {"class": "tug"},
        **members,
    }


def write(path, *features):
    content = {"type": "FeatureCollection", "features": features}
    path.write_text(json.dumps(content))
    return path


def test_ids_of_geojson_are_those_of_qgis(tmp_path):
    path = write(tmp_path / "a.geojson", feature(3), feature(1, {"class": "cargo"}))
    annotations = read_annotations(path)
    assert annotations.table["at"].tolist() == [0, 1]
    assert [point.x for point in annotations.table.geometry] == [3, 1]
    assert annotations.table["class"].tolist() == ["tug", "cargo"]
    whole = write(tmp_path / "b.geojson", feature(3, id=4), feature(1, id=12))
    assert read_annotations(whole).table.index.tolist() == [4, 12]
    repeated = write(tmp_path / "c.geojson", feature(3, id="z"), feature(1, id="z"))
    assert len(read_annotations(repeated).table) == 2


def test_rows_of_a_layer_in_pixels_belong_to_the_scene_that_they_name(tmp_path):
    path = tmp_path / "found.gpkg"
    table = geopandas.GeoDataFrame(
        {"scene": ["a.png", "b.png", None], "row": [1.5, 1.5, 7.5], "col": [2.5] * 3},
        geometry=shapely.points([2.5, 2.5, 2.5], [-1.5, -1.5, -7.5]),
    )
    with pytest.warns(UserWarning, match="crs"):
        table.to_file(path)
    found = find_annotations(path, Path("b.png"))
    assert found.table.index.tolist() == [2]
    assert found.notes == ["found.gpkg: left out: 1 rows without the name of a scene"]
    with pytest.raises(NoAnnotationsError, match=mentions("2 images", "c.png")):
        find_annotations(path, Path("c.png"))
    table.set_crs("EPSG:32633").to_file(path)  # on a map, a place is in every scene
    assert len(find_annotations(path, Path("c.png")).table) == 3


def test_one_of_several_layers_must_be_named(tmp_path):
    path = tmp_path / "a.gpkg"
    for number, name in enumerate(("one", "two")):
        table = geopandas.GeoDataFrame(
            {"class": [name]}, geometry=[shapely.Point(number, 0)], crs="EPSG:32633"
        )
        table.to_file(path, layer=name)
    with pytest.raises(RequestError, match=mentions("only one", "one, two", "--layer")):
        read_annotations(path)
    with pytest.raises(RequestError, match=mentions("no layer three", "one, two")):
        read_annotations(path, layer="three")
    annotations = read_annotations(path, layer="two")
    assert annotations.table["class"].tolist() == ["two"]
    assert "fid" not in annotations.table
    assert "32633" in annotations.crs and annotations.table["at"].tolist() == [1]


def test_types_that_outputs_can_store():
    table = pa.table(
        {
            "number": [1, None],
            "raw": pa.array([b"1", b"2"], pa.binary()),
            "parts": [[1, 2], None],
            "day": pa.array([3_600_000_000, None], pa.time64("us")),
        }
    )
    columns, notes = convert_columns(Path("x/a.gpkg"), table)
    values = {column.name: column.tolist() for column in columns}
    assert values["number"][0] == 1 and values["parts"][0] == "[1, 2]"
    assert values["day"][0] == "01:00:00" and "raw" not in values
    assert notes == ["a.gpkg: binary attributes were left out: raw"]
