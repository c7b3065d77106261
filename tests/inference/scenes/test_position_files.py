"""Read positions in every format, to the pixel."""

from __future__ import annotations

import json

import geopandas
import numpy as np
import pytest
import shapely
from pyproj import Transformer

from rsft.errors import DataError, RequestError
from rsft.inference.scenes.position_files import read_positions
from rsft.inference.scenes.raster import open_scene
from tests.helpers.scenes import UTM, write_geotiff

PIXELS = np.array([[30.25, 40.5], [90.0, 10.75]])  # row, col
BOX = (20, 10, 60, 30)  # xmin ymin xmax ymax in pixels


@pytest.fixture
def scene(tmp_path):
    return open_scene(
        write_geotiff(tmp_path / "s.tif", np.zeros((100, 200), np.uint8), crs="EPSG:32633", transform=UTM)
    )


@pytest.fixture
def bare(tmp_path):
    return open_scene(write_geotiff(tmp_path / "s.tif", np.zeros((100, 200), np.uint8)))


def in_crs(crs):
    x, y = UTM @ (PIXELS[:, 1], PIXELS[:, 0])
    return Transformer.from_crs("EPSG:32633", crs, always_xy=True).transform(x, y)


def middles(positions):
    return np.array([[location.row, location.col] for location in positions.locations])


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633", "EPSG:3857", "EPSG:3035"])
@pytest.mark.parametrize("suffix", ["gpkg", "geojson"])
def test_layers(scene, tmp_path, crs, suffix):
    path = tmp_path / f"ships.{suffix}"
    if suffix == "geojson" and crs != "EPSG:4326":
        pytest.skip("GeoJSON is in degrees")
    geopandas.GeoDataFrame(geometry=shapely.points(*in_crs(crs)), crs=crs).to_file(path)
    positions = read_positions(path, scene)
    assert middles(positions) == pytest.approx(PIXELS, abs=1e-3)
    assert [(location.source_row, location.name, location.box) for location in positions.locations] == [
        (1, "s_000001", None),
        (2, "s_000002", None),
    ]


@pytest.mark.parametrize(
    ("names", "crs", "option"),
    [
        ("lon,lat", "EPSG:4326", None),
        ("Longitude,Latitude", "EPSG:4326", None),
        ("x,y", "EPSG:3035", "EPSG:3035"),
    ],
)
def test_csv(scene, tmp_path, names, crs, option):
    rows = [f"{x:.9f},{y:.9f},7" for x, y in zip(*in_crs(crs), strict=True)]
    (tmp_path / "a.csv").write_text("\n".join([f"{names},mmsi", *rows, ",,8", "a,b,9"]))
    positions = read_positions(tmp_path / "a.csv", scene, option)
    assert middles(positions) == pytest.approx(PIXELS, abs=1e-3)
    assert [location.source_row for location in positions.locations] == [2, 3]
    assert [(line, reason) for _, line, reason in positions.rejected] == [(4, "no position"), (5, "no position")]


@pytest.mark.parametrize(("header", "crs"), [("row,col", None), ("y,x", "pixel")])
def test_pixels(bare, tmp_path, header, crs):
    (tmp_path / "a.csv").write_text("\n".join([header, *(f"{row},{col}" for row, col in PIXELS)]))
    assert middles(read_positions(tmp_path / "a.csv", bare, crs)) == pytest.approx(PIXELS)


def test_rotated_boxes(scene, tmp_path):
    rotated = shapely.Polygon([UTM @ corner for corner in ((50, 20), (60, 30), (40, 50), (30, 40))])
    geopandas.GeoDataFrame(geometry=[rotated], crs="EPSG:32633").to_file(tmp_path / "a.gpkg")
    location = read_positions(tmp_path / "a.gpkg", scene).locations[0]
    assert (location.row, location.col) == pytest.approx((35, 45), abs=1e-3)
    sides = np.linalg.norm(np.diff(np.reshape(location.box, (4, 2)), axis=0), axis=1)
    assert sorted(sides.tolist()) == pytest.approx([200**0.5, 200**0.5, 800**0.5], abs=1e-2) or sorted(
        sides.tolist()
    ) == pytest.approx([200**0.5, 800**0.5, 800**0.5], abs=1e-2)


def test_positions_outside_are_counted(scene, tmp_path):
    geopandas.GeoDataFrame(geometry=shapely.points([15.0, 15.001], [10.0, 45.15]), crs=4326).to_file(
        tmp_path / "a.gpkg"
    )
    positions = read_positions(tmp_path / "a.gpkg", scene)
    assert len(positions.locations) == 1 and positions.notes == ["positions outside of s.tif: 1 of 2"]


def test_lines_are_rejected(scene, tmp_path):
    shapes = [shapely.LineString([(15, 45), (16, 46)]), shapely.Point(15.001, 45.15)]
    geopandas.GeoDataFrame(geometry=shapes, crs=4326).to_file(tmp_path / "a.geojson")
    positions = read_positions(tmp_path / "a.geojson", scene)
    assert len(positions.locations) == 1 and positions.rejected[0][1:] == (
        1,
        "LineString geometry, but only points and polygons can be used",
    )


DETECTIONS = {
    "dota.txt": "imagesource:x\ngsd:1\n20 10 60 10 60 30 20 30 ship 0\n1 2 3 ship 0\n1 1 1 1 1 1 1 1 ship 0\n",
    "yolo.txt": "0 0.2 0.2 0.2 0.2 0.9\n0 20 20 5 5\n",
    "obb.txt": "0 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3\n",
    "coco.json": {
        "images": [{"id": 7, "file_name": "a/s.tif"}, {"id": 8, "file_name": "t.tif"}],
        "annotations": [
            {"image_id": 8, "bbox": [0, 0, 9, 9]},
            {"image_id": 7, "bbox": [20, 10, 40, 20]},
            {"image_id": 7, "bbox": [20, 10, 0, 20]},
        ],
    },
    "results.json": [{"image_id": 3, "bbox": [20, 10, 40, 20], "score": 0.9}],
}


@pytest.mark.parametrize(
    ("name", "row", "score", "rejected"),
    [
        ("dota.txt", 3, None, [4, 5]),
        ("yolo.txt", 1, 0.9, [2]),
        ("obb.txt", 1, None, []),
        ("coco.json", 2, None, [3]),
        ("results.json", 1, 0.9, []),
    ],
)
def test_detections(bare, tmp_path, name, row, score, rejected):
    content = DETECTIONS[name]
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    positions = read_positions(tmp_path / name, bare)
    (location,) = positions.locations
    rows, cols = np.reshape(location.box, (4, 2)).T
    assert (cols.min(), rows.min(), cols.max(), rows.max()) == pytest.approx(BOX)
    assert (location.row, location.col, location.source_row, location.score) == pytest.approx((20, 40, row, score))
    assert [line for _, line, _ in positions.rejected] == rejected


def test_folder_of_yolo_files(bare, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/s.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert middles(read_positions(tmp_path / "labels", bare)).tolist() == [[50, 100]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.gpkg", None, "no file of positions"),
        ("a.gpkg", "text", "cannot be read"),
        ("a.csv", "name,size\na,1", "no columns of positions among name, size"),
        ("a.csv", "x,y\n1,2", "no coordinate system"),
        ("a.csv", "lon,lat\n15,45", "no georeference"),
        ("a.json", "{", "not a JSON file"),
        ("a.json", '{"images": []}', "not a COCO file"),
    ],
)
def test_refused(bare, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(RequestError, match=message):
        read_positions(tmp_path / name, bare)


def test_scene_that_is_missing_in_coco(bare, tmp_path):
    (tmp_path / "a.json").write_text('{"images": [{"id": 1, "file_name": "other.tif"}], "annotations": []}')
    with pytest.raises(DataError, match=r"none of its 1 images has the name s\.tif"):
        read_positions(tmp_path / "a.json", bare)


def test_unknown_coordinate_system(scene, tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2")
    with pytest.raises(RequestError, match="unknown coordinate system EPSG:1"):
        read_positions(tmp_path / "a.csv", scene, "EPSG:1")
