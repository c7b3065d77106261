"""Attributes and ids of positions, in layers, tables and detections."""

import datetime
import json
import sqlite3

import geopandas
import pandas as pd
import pyarrow as pa
import pytest
import shapely

from rsft.errors import RequestError
from rsft.scenes.positions import read_positions
from tests.helpers.files import written
from tests.helpers.messages import mentions
from tests.scenes.example_positions import PIXELS, in_crs, middles


def layer_of(attributes, count=2):
    lon, lat = in_crs("EPSG:4326")
    return geopandas.GeoDataFrame(
        attributes, geometry=shapely.points(lon[:count], lat[:count]), crs=4326
    )


ATTRIBUTES = {
    "mmsi": pd.array([211, None], "Int64"),
    "speed": [1.5, None],
    "name": ["Anna", None],
    "towing": pd.array([True, None], "boolean"),
    "built": pd.array([datetime.date(1999, 5, 1), None], pd.ArrowDtype(pa.date32())),
    "seen": pd.to_datetime(["2020-01-02T03:04:05Z", None]),
}


def test_attributes_of_a_geopackage_keep_their_types(scene, tmp_path):
    layer_of(ATTRIBUTES).to_file(
        tmp_path / "a.gpkg", use_arrow=True, SPATIAL_INDEX="NO"
    )
    with sqlite3.connect(tmp_path / "a.gpkg") as database:
        database.execute("UPDATE a SET fid = CASE fid WHEN 1 THEN 3 ELSE 42 END")
    attributes = read_positions(tmp_path / "a.gpkg", scene).attributes
    assert attributes["at"].tolist() == [3, 42] and attributes.index.tolist() == [3, 42]
    assert {name: str(column.dtype) for name, column in attributes.items()} == {
        "at": "Int64",
        "mmsi": "int64[pyarrow]",
        "speed": "double[pyarrow]",
        "name": "string[pyarrow]",
        "towing": "bool[pyarrow]",
        "built": "date32[day][pyarrow]",
        "seen": "timestamp[ms, tz=UTC][pyarrow]",
    }
    assert (
        attributes.loc[3, "built"] == datetime.date(1999, 5, 1)
        and attributes.loc[3, "towing"] is True
    )
    assert attributes.loc[42].isna().tolist() == [False] + [True] * 6


def geojson(path, *features):
    lon, lat = in_crs("EPSG:4326")
    rows = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [x, y]}}
        | feature
        for x, y, feature in zip(lon, lat, features, strict=True)
    ]
    return written(path, json.dumps({"type": "FeatureCollection", "features": rows}))


@pytest.mark.parametrize(
    ("features", "at", "numbers"),
    [
        (({"id": 6}, {"id": 3}), [6, 3], [6, 3]),
        (({"id": "007"}, {"id": "b"}), ["007", "b"], [1, 2]),
        (({"id": 5}, {"id": 5}), [5, 5], [1, 2]),
        (
            (
                {"id": "x", "properties": {"id": 9}},
                {"id": "y", "properties": {"id": 8}},
            ),
            ["x", "y"],
            [1, 2],
        ),
        (({"properties": {"id": 9}}, {"properties": {"id": 4}}), [9, 4], [9, 4]),
        (({}, {"properties": None}), [0, 1], [0, 1]),
    ],
)
@pytest.mark.parametrize("suffix", ["geojson", "json"])
def test_ids_of_geojson(scene, tmp_path, features, at, numbers, suffix):
    features = [{"properties": {}} | feature for feature in features]
    positions = read_positions(geojson(tmp_path / f"a.{suffix}", *features), scene)
    assert middles(positions) == pytest.approx(PIXELS, abs=1e-3)
    assert positions.attributes["at"].tolist() == at
    assert [location.source_row for location in positions.locations] == numbers
    ids = [
        feature["properties"]["id"]
        for feature in features
        if "id" in (feature["properties"] or {})
    ]
    assert (
        ("id" not in positions.attributes)
        if not ids
        else positions.attributes["id"].tolist() == ids
    )


def test_nested_attributes_become_json(scene, tmp_path):
    path = geojson(
        tmp_path / "a.geojson",
        {"properties": {"tags": ["a", 1], "size": {"l": 3}}},
        {"properties": {}},
    )
    attributes = read_positions(path, scene).attributes
    assert [json.loads(attributes.loc[0, name]) for name in ("tags", "size")] == [
        ["a", 1],
        {"l": 3},
    ]


def test_binary_attributes_are_left_out_with_a_note(scene, tmp_path):
    layer = layer_of(
        {"photo": pd.array([b"x", b"y"], pd.ArrowDtype(pa.binary())), "mmsi": [1, 2]}
    )
    layer.to_file(tmp_path / "a.gpkg", use_arrow=True)
    positions = read_positions(tmp_path / "a.gpkg", scene)
    assert list(positions.attributes) == ["at", "mmsi"]
    assert positions.notes == ["a.gpkg: binary attributes were left out: photo"]


def test_shapefile(scene, tmp_path):
    layer_of({"fid": [30, 40], "name": ["a", "b"]}).to_file(tmp_path / "a.shp")
    attributes = read_positions(tmp_path / "a.shp", scene).attributes
    assert attributes.to_dict("list") == {
        "at": [0, 1],
        "fid": [30, 40],
        "name": ["a", "b"],
    }


def test_layers_are_chosen_by_name(scene, tmp_path):
    for name, mmsi in (("ships", [1, 2]), ("buoys", [3, 4])):
        layer_of({"mmsi": mmsi}).to_file(tmp_path / "a.gpkg", layer=name)
    with pytest.raises(RequestError, match=mentions("ships, buoys", "--layer")):
        read_positions(tmp_path / "a.gpkg", scene)
    assert read_positions(tmp_path / "a.gpkg", scene, layer="buoys").attributes[
        "mmsi"
    ].tolist() == [3, 4]
    with pytest.raises(RequestError, match=mentions("boats", "ships, buoys")):
        read_positions(tmp_path / "a.gpkg", scene, layer="boats")
    with pytest.raises(RequestError, match=mentions("a.csv", "--layer")):
        read_positions(written(tmp_path / "a.csv", "lon,lat\n"), scene, layer="ships")


def test_types_and_lines_of_a_csv(bare, tmp_path):
    text = 'row,col,MMSI,imo,speed,towing,"first\nname",\n1,2,211,007,1.5,true,"a\nb",x\n\n3,4,NA,8,,FALSE,NA,\n'
    attributes = read_positions(written(tmp_path / "a.csv", text), bare).attributes
    assert attributes.astype(object).where(attributes.notna(), None).to_dict(
        "list"
    ) == {
        # the header and the first row have two lines each, and line 5 is blank
        "at": [
            3,
            6,
        ],
        "MMSI": [211, None],
        "imo": ["007", "8"],
        "speed": [1.5, None],
        "towing": [True, False],
        "first\nname": ["a\nb", "NA"],
        "column_8": ["x", None],
    }


def test_attributes_of_detections(bare, tmp_path):
    box = "20 10 60 10 60 30 20 30"
    dota = read_positions(
        written(tmp_path / "dota.txt", f"gsd:1\n{box} ship 1\n{box} tank\n"), bare
    ).attributes
    assert dota[["at", "class"]].to_dict("list") == {
        "at": [2, 3],
        "class": ["ship", "tank"],
    }
    assert dota["difficulty"].fillna(-1).tolist() == [1, -1]
    yolo = read_positions(
        written(tmp_path / "yolo.txt", "4 0.2 0.2 0.2 0.2\n"), bare
    ).attributes
    assert yolo.to_dict("list") == {"at": [1], "class": [4]}


def test_attributes_of_coco(bare, tmp_path):
    coco = {
        "images": [{"id": 7, "file_name": "s.tif"}, {"id": 8, "file_name": "t.tif"}],
        "categories": [{"id": 2, "name": "tanker"}],
        "annotations": [
            {"id": 90, "image_id": 8, "bbox": [0, 0, 9, 9], "category_id": 2},
            {
                "id": 70,
                "image_id": 7,
                "bbox": [20, 10, 40, 20],
                "category_id": 2,
                "iscrowd": 0,
                "segmentation": [[1]],
            },
        ],
    }
    positions = read_positions(written(tmp_path / "a.json", json.dumps(coco)), bare)
    attributes = {
        "at": [70],
        "category_id": [2],
        "iscrowd": [0],
        "category": ["tanker"],
        "class": ["tanker"],
    }
    assert positions.attributes.to_dict("list") == attributes
    assert positions.locations[0].name == "s_000070"
    coco["annotations"][1]["id"] = "a-1"
    assert read_positions(
        written(tmp_path / "a.json", json.dumps(coco)), bare
    ).attributes["at"].tolist() == ["a-1"]
