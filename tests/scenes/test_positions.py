"""Read positions in every format, to the pixel."""

import json

import geopandas
import numpy as np
import pytest
import shapely

from rsft.errors import DataError, RequestError
from rsft.scenes.positions import read_positions
from tests.helpers.files import written
from tests.helpers.messages import mentions
from tests.helpers.scenes import UTM
from tests.scenes.example_positions import PIXELS, in_crs, middles

BOX = (20, 10, 60, 30)  # xmin ymin xmax ymax in pixels


@pytest.mark.parametrize(
    ("suffix", "crs"),
    [
        ("geojson", "EPSG:4326"),
        *(("gpkg", f"EPSG:{x}") for x in (4326, 32633, 3857, 3035)),
    ],
)
def test_layers(scene, tmp_path, crs, suffix):
    path = tmp_path / f"ships.{suffix}"
    geopandas.GeoDataFrame(geometry=shapely.points(*in_crs(crs)), crs=crs).to_file(path)
    positions = read_positions(path, scene)
    assert middles(positions) == pytest.approx(PIXELS, abs=1e-3)
    # GDAL counts features without ids from 0, except in a GeoPackage
    first = 1 if suffix == "gpkg" else 0
    names = [
        (location.source_row, location.name, location.box)
        for location in positions.locations
    ]
    assert names == [(number, f"s_{number:06d}", None) for number in (first, first + 1)]


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
    path = written(
        tmp_path / "a.csv", "\n".join([f"{names},imo", *rows, ",,8", "a,b,9"])
    )
    positions = read_positions(path, scene, option)
    assert middles(positions) == pytest.approx(PIXELS, abs=1e-3)
    assert [location.source_row for location in positions.locations] == [2, 3]
    assert positions.attributes.to_dict("list") == {"at": [2, 3], "imo": [7, 7]}
    assert [(line, reason) for _, line, reason in positions.rejected] == [
        (4, "no position"),
        (5, "no position"),
    ]


TIMES = "2026-05-01T06:00:00", "2026-05-01T06:10:00"


@pytest.mark.parametrize(
    ("names", "rows", "columns"),
    [
        (
            "MMSI,BaseDateTime,LAT,LON,SOG",
            [f"211,{TIMES[0]}", f"211,{TIMES[1]}"],
            "MMSI, BaseDateTime",
        ),
        (
            "# Timestamp,MMSI,Latitude,Longitude,SOG",
            [f"{TIMES[0]},211", f"{TIMES[1]},212"],
            "MMSI, # Timestamp",
        ),
        ("mmsi,name,lat,lon,SOG", ["211,a", "211,b"], "mmsi"),
    ],
)
def test_ais_messages_are_no_objects(scene, tmp_path, names, rows, columns):
    cells = [
        f"{row},{y:.9f},{x:.9f},9.5"
        for row, x, y in zip(rows, *in_crs("EPSG:4326"), strict=True)
    ]
    path = written(tmp_path / "ais.csv", "\n".join([names, *cells]))
    with pytest.raises(
        RequestError,
        match=mentions(
            "2 rows of", "AIS", str(path), f"(columns {columns})", "one position"
        ),
    ):
        read_positions(path, scene)


@pytest.mark.parametrize("vessels", [("211", "212"), ("0", "0"), ("", "")])
@pytest.mark.parametrize("time", ["", TIMES[0]])
def test_one_position_per_vessel_at_one_time(scene, tmp_path, vessels, time):
    cells = [
        f"{vessel},{time},{y:.9f},{x:.9f}"
        for vessel, x, y in zip(vessels, *in_crs("EPSG:4326"), strict=True)
    ]
    positions = read_positions(
        written(tmp_path / "a.csv", "\n".join(["MMSI,time,lat,lon", *cells])), scene
    )
    assert (
        middles(positions) == pytest.approx(PIXELS, abs=1e-3)
        and "MMSI" in positions.attributes
    )


@pytest.mark.parametrize(("header", "crs"), [("row,col", None), ("y,x", "pixel")])
def test_pixels(bare, tmp_path, header, crs):
    path = written(
        tmp_path / "a.csv",
        "\n".join([header, *(f"{row},{col}" for row, col in PIXELS)]),
    )
    assert middles(read_positions(path, bare, crs)) == pytest.approx(PIXELS)


@pytest.mark.parametrize(
    ("columns", "crs"), [({}, "pixel"), ({"row": 0.0, "col": 0.0}, None)]
)
def test_pixels_of_a_layer_whose_rows_count_upwards(bare, tmp_path, columns, crs):
    points = [shapely.Point(col, -row) for row, col in PIXELS]
    layer = geopandas.GeoDataFrame(columns, index=range(len(points)), geometry=points)
    layer.to_file(tmp_path / "a.gpkg")
    positions = read_positions(tmp_path / "a.gpkg", bare, crs)
    assert middles(positions) == pytest.approx(PIXELS)
    assert "a.gpkg: y is negative, and was read as -row" in positions.notes


def test_the_coordinate_system_that_the_user_gives_is_taken(scene, tmp_path):
    points = [shapely.Point(xy) for xy in zip(*in_crs("EPSG:32633"), strict=True)]
    layer = geopandas.GeoDataFrame(
        {"row": 0.0, "col": 0.0}, range(len(points)), geometry=points
    )
    layer.to_file(tmp_path / "a.gpkg")
    with pytest.raises(RequestError, match="no coordinate system"):
        read_positions(tmp_path / "a.gpkg", scene)
    positions = read_positions(tmp_path / "a.gpkg", scene, "EPSG:32633")
    assert middles(positions) == pytest.approx(PIXELS, abs=1e-3)


def test_rotated_boxes(scene, tmp_path):
    rotated = shapely.Polygon(
        [UTM @ corner for corner in ((50, 20), (60, 30), (40, 50), (30, 40))]
    )
    geopandas.GeoDataFrame(geometry=[rotated], crs="EPSG:32633").to_file(
        tmp_path / "a.gpkg"
    )
    location = read_positions(tmp_path / "a.gpkg", scene).locations[0]
    assert (location.row, location.col) == pytest.approx((35, 45), abs=1e-3)
    sides = np.linalg.norm(np.diff(np.reshape(location.box, (4, 2)), axis=0), axis=1)
    assert (sides.min(), sides.max()) == pytest.approx((200**0.5, 800**0.5), abs=1e-2)


def test_positions_outside_are_counted_and_lines_rejected(scene, tmp_path):
    shapes = [
        shapely.LineString([(15, 45), (16, 46)]),
        shapely.Point(15.001, 45.15),
        shapely.Point(15, 10),
    ]
    geopandas.GeoDataFrame(geometry=shapes, crs=4326).to_file(tmp_path / "a.geojson")
    positions = read_positions(tmp_path / "a.geojson", scene)
    assert len(positions.locations) == 1 and positions.notes == [
        "positions outside of s.tif: 1 of 2"
    ]
    assert positions.rejected[0][1:] == (
        0,
        "LineString geometry, but only points and polygons can be used",
    )


DETECTIONS = {
    "dota.txt": (
        "imagesource:x\ngsd:1\n20 10 60 10 60 30 20 30 ship 0\n1 2 3 ship 0\n1 1 1 1 1"
        " 1 1 1 ship 0\n"
    ),
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
    (tmp_path / name).write_text(
        content if isinstance(content, str) else json.dumps(content)
    )
    positions = read_positions(tmp_path / name, bare)
    (location,) = positions.locations
    rows, cols = np.reshape(location.box, (4, 2)).T
    assert (cols.min(), rows.min(), cols.max(), rows.max()) == pytest.approx(BOX)
    assert (
        location.row,
        location.col,
        location.source_row,
        location.score,
    ) == pytest.approx((20, 40, row, score))
    assert [line for _, line, _ in positions.rejected] == rejected


def test_folder_of_yolo_files(bare, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/s.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert middles(read_positions(tmp_path / "labels", bare)).tolist() == [[50, 100]]


ONE_POINT = '{"type": "Polygon", "coordinates": [[[15.0, 50.0]]]}'
BAD_TEXT = (
    b'{"type": "FeatureCollection", "features": [{"type": "Feature", "properties":'
    b' {"a\xff": "\xfe"}, "geometry": {}}]}'
)
FEATURES = '{"type": "FeatureCollection", "features": [{"id": 1}, %s]}'


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("gone.gpkg", None, ["no such file"]),
        ("a.gpkg", "text", ["cannot be read"]),
        *(
            (f"a.{suffix}", "", ["0 bytes"])
            for suffix in ("gpkg", "geojson", "csv", "json", "shp")
        ),
        ("a.csv", "name,size\na,1", ["among name, size", "commas", "lon and lat"]),
        ("a.csv", "name;size\na;1", ["among name, size", "semicolons"]),
        ("a.csv", "x,y\n1,2", ["coordinate system", "--crs"]),
        ("a.csv", "lon,lat\n15,45", ["no georeference", "--crs pixel"]),
        ("a.csv", "row,col\n1,2\n3,4,5\n", ["a.csv:3", "3 fields", "header has 2"]),
        ("a.csv", b"row,col\n\xff,2\n", ["cannot be read"]),
        ("a.csv", 'row,col\n"1,2\n', ["cannot be read"]),
        ("a.txt", b"\xff\xfe", ["UTF-8", "YOLO", "DOTA"]),
        ("a.json", "{", ["not a JSON file"]),
        ("a.json", '{"images": []}', ["COCO", "annotations"]),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "t.tif"}], "annotations": []}',
            ["1 images", "s.tif"],
        ),
        (
            "a.json",
            '[{"image_id": 1, "bbox": []}, {"image_id": 2, "bbox": []}]',
            ["2 images", "s.tif"],
        ),
        (
            "a.geojson",
            f'{{"type": "Feature", "properties": {{}}, "geometry": {ONE_POINT}}}',
            ["cannot be read"],
        ),
        ("a.geojson", BAD_TEXT, ["cannot be read"]),
        ("a.geojson", FEATURES % "[1]", ["feature", "objects"]),
        (
            "a.geojson",
            FEATURES % '{"id": 1, "properties": [1]}',
            ["feature", "objects"],
        ),
    ],
)
def test_refused(bare, tmp_path, name, content, parts):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises((RequestError, DataError), match=mentions(*parts)):
        read_positions(path, bare)


def test_unknown_coordinate_system(scene, tmp_path):
    with pytest.raises(RequestError, match=mentions("EPSG:1", "--crs")):
        read_positions(written(tmp_path / "a.csv", "x,y\n1,2"), scene, "EPSG:1")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("row;col;size\n30.25;40.5;1.5\n", "a.csv: columns separated by semicolons"),
        (
            "row;col;size\n30,25;40,5;1,5\n",
            "a.csv: columns separated by semicolons, numbers with decimal commas",
        ),
        ("row\tcol\tsize\n30.25\t40.5\t1.5\n", "a.csv: columns separated by tabs"),
    ],
)
def test_separators_of_a_csv(bare, tmp_path, text, note):
    positions = read_positions(written(tmp_path / "a.csv", "\ufeff" + text), bare)
    assert middles(positions).tolist() == [[30.25, 40.5]] and positions.attributes[
        "size"
    ].tolist() == [1.5]
    assert positions.notes == [note]


@pytest.mark.parametrize(("name", "text"), [("a.txt", ""), ("a.csv", "lon,lat\n")])
def test_a_file_without_objects(scene, tmp_path, name, text):
    """A detector that found nothing writes only a header, or nothing."""
    positions = read_positions(written(tmp_path / name, text), scene)
    assert not positions.locations and positions.attributes["at"].tolist() == []


def test_a_box_of_unbelievable_size_is_rejected(bare, tmp_path):
    boxes = [
        {"image_id": 1, "category_id": 1, "bbox": box}
        for box in ([5, 5, 9, 1e308], [5, 5, 9, 9])
    ]
    images = [{"id": 1, "file_name": bare.path.name}]
    path = tmp_path / "at.json"
    path.write_text(
        json.dumps(
            {
                "images": images,
                "categories": [{"id": 1, "name": "ship"}],
                "annotations": boxes,
            }
        )
    )
    result = read_positions(path, bare)
    assert len(result.locations) == 1
    assert [(line, reason) for _, line, reason in result.rejected] == [
        (1, "the position cannot be transformed to pixels of the scene")
    ]


def test_labels_of_an_image_of_another_size(bare, tmp_path):
    """Pixels of another image are refused; fractions are those of the scene."""
    image = {"id": 1, "file_name": "s.png", "width": 100, "height": 50}
    coco = {
        "images": [image],
        "categories": [{"id": 1, "name": "tug"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [20, 10, 40, 20]}],
    }
    path = written(tmp_path / "a.json", json.dumps(coco))
    with pytest.raises(
        RequestError, match=mentions("a.json", "100 x 50", "s.tif", "200 x 100")
    ):
        read_positions(path, bare)
    image |= {"width": 200, "height": 100}
    path = written(tmp_path / "a.json", json.dumps(coco))
    positions = read_positions(path, bare)
    assert middles(positions).tolist() == [[20, 40]]
    assert positions.attributes["class"].tolist() == ["tug"]
    assert positions.notes == [
        "a.json: the image s.png is taken as s.tif: without its suffix"
    ]
    path = written(tmp_path / "a.txt", "0 0.2 0.2 0.2 0.2")
    assert middles(read_positions(path, bare)).tolist() == [[20, 40]]


def test_columns_by_role(bare, tmp_path):
    path = written(tmp_path / "a.csv", "u,v\n40.5,30.25\n")
    assert middles(
        read_positions(path, bare, columns={"col": "u", "row": "v"})
    ).tolist() == [[30.25, 40.5]]


@pytest.mark.parametrize(("names", "crs"), [("lat,lon", None), ("y,x", "EPSG:32633")])
def test_exchanged_coordinates_are_named(scene, tmp_path, names, crs):
    rows = [f"{x},{y}" for x, y in zip(*in_crs(crs or "EPSG:4326"), strict=True)]
    path = written(tmp_path / "a.csv", "\n".join([names, *rows]))
    with pytest.raises(
        RequestError,
        match=r"2 of 2 positions lie in s\.tif if (lon and lat|x and y) are exchanged",
    ):
        read_positions(path, scene, crs)


def test_a_few_exchanged_coordinates_give_a_note(scene, tmp_path):
    lon, lat = (values[0] for values in in_crs("EPSG:4326"))
    positions = read_positions(
        written(tmp_path / "a.csv", f"lat,lon\n{lon},{lat}\n1,2\n3,4\n"), scene
    )
    assert not positions.locations and positions.outside == [2, 3, 4]
    assert positions.notes == [
        (
            "1 of 3 positions lie in s.tif if lon and lat are exchanged, and none as"
            " they are"
        ),
        positions.outside_note,
    ]
    assert positions.outside_note.startswith(
        "positions outside of s.tif: 3 of 3; check the coordinate system of their file"
        " (EPSG:4326): they lie at row "
    )
    assert positions.outside_note.endswith("(geotransform, EPSG:32633)")


def test_the_range_of_positions_outside_of_the_scene(bare, tmp_path):
    (note,) = read_positions(
        written(tmp_path / "b.csv", "row,col\n5000,9000\n6000,9500\n"), bare, "pixel"
    ).notes
    size = f"{bare.height:,} x {bare.width:,} pixels"
    assert f"row 5000 to 6000, col 9000 to 9500 of {size} (pixel)" in note
