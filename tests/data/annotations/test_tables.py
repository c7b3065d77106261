"""Tables whose columns are found by their names, and Parquet."""

import json

import geopandas
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from pyproj import CRS

from rsft.data.annotations.base import read_annotations
from rsft.errors import RequestError
from tests.helpers.files import written
from tests.helpers.messages import mentions


@pytest.mark.parametrize(
    ("header", "crs", "bounds", "guess"),
    [
        ("lon,lat,a,b", "EPSG:4326", (1, 2, 1, 2), None),
        ("Longitude,Latitude,a,b", "EPSG:4326", (1, 2, 1, 2), None),
        ("long,lat,a,b", "EPSG:4326", (1, 2, 1, 2), "lon=long"),
        (
            "Lng,Latitude,a,b",
            "EPSG:4326",
            (1, 2, 1, 2),
            "lon=Lng",
        ),
        ("Column,Line,a,b", "pixel", (1, 2, 1, 2), "col=Column, row=Line"),
        (
            "x_min,y_min,x_max,y_max",
            None,
            (1, 2, 3, 4),
            "xmin=x_min, ymin=y_min, xmax=x_max, ymax=y_max",
        ),
        (
            "left,top,right,bottom",
            None,
            (1, 2, 3, 4),
            "xmin=left, ymin=top, xmax=right, ymax=bottom",
        ),
        ("x1,y1,x2,y2", None, (1, 2, 3, 4), "xmin=x1, ymin=y1, xmax=x2, ymax=y2"),
        (
            "Easting,Northing,a,b",
            None,
            (1, 2, 1, 2),
            "x=Easting, y=Northing",
        ),
    ],
)
def test_positions_by_the_names_of_columns(tmp_path, header, crs, bounds, guess):
    annotations = read_annotations(
        written(tmp_path / "a.csv", f"{header}\n1,2,3,4\n,,,\n")
    )
    assert annotations.crs == crs and annotations.table.geometry[2].bounds == bounds
    assert annotations.table.geometry[3] is None
    assert annotations.notes == (
        [f"a.csv: by the names of columns: {guess}"] if guess else []
    )


def test_corners_of_a_quadrilateral_are_no_upright_box(tmp_path):
    header = ",".join(f"{axis}{number}" for number in range(1, 5) for axis in "xy")
    with pytest.raises(
        RequestError, match=mentions("no columns of positions", "x3", "--columns")
    ):
        read_annotations(written(tmp_path / "a.csv", f"{header}\n1,2,3,4,5,6,7,8\n"))


@pytest.mark.parametrize(
    ("header", "classes", "others", "guess"),
    [
        ("row,col,class,type", ["a"], {"type": "b"}, []),
        ("row,col,Class,type", ["a"], {"type": "b"}, []),
        (
            "row,col,name,ship_type",
            ["b"],
            {"name": "a", "ship_type": "b"},
            ["class=ship_type"],
        ),
    ],
)
def test_the_class_of_a_table(tmp_path, header, classes, others, guess):
    annotations = read_annotations(written(tmp_path / "a.csv", f"{header}\n1,2,a,b\n"))
    table = annotations.table
    assert (
        table["class"].tolist() == classes
        and {name: table[name][2] for name in others} == others
    )
    assert not {"Class", "at_class"} & set(table)
    assert annotations.notes == [
        f"a.csv: by the names of columns: {text}" for text in guess
    ]


def test_a_table_that_names_images(tmp_path):
    """The CSV of the object detection API of TensorFlow."""
    rows = [
        "a.jpg,500,400,ship,10,20,30,40",
        "b.jpg,500,400,tug,1,2,3,4",
        ",500,400,tug,1,2,3,4",
    ]
    text = "\n".join(["filename,width,height,class,xmin,ymin,xmax,ymax", *rows])
    annotations = read_annotations(written(tmp_path / "a.csv", text))
    assert (annotations.crs, annotations.images) == ("pixel", ("a.jpg", "b.jpg"))
    assert annotations.table["_image"].tolist() == ["a.jpg", "b.jpg", ""]
    guess = "image=filename, positions are pixels of the image"
    assert annotations.notes == [
        "a.csv: left out: 1 rows without the name of an image",
        f"a.csv: by the names of columns: {guess}",
    ]
    on_a_map = read_annotations(
        written(tmp_path / "b.csv", "lon,lat,filename\n1,2,a.jpg\n")
    )
    assert (on_a_map.crs, on_a_map.images) == ("EPSG:4326", ())
    unknown = read_annotations(written(tmp_path / "c.csv", "x,y,scene\n1,2,a.tif\n"))
    assert (unknown.crs, unknown.images) == (
        None,
        (),
    ) and "--columns image=NAME" in unknown.notes[0]


def test_columns_that_the_caller_names(tmp_path):
    path = written(
        tmp_path / "a.csv", "lon,lat,X,Y,kind,class,file\n1,2,30,40,tug,7,a.tif\n"
    )
    columns = {"col": "X", "row": "Y", "class": "kind", "image": "file"}
    annotations = read_annotations(path, columns=columns)
    table = annotations.table
    assert (annotations.crs, annotations.images) == ("pixel", ("a.tif",))
    assert table.geometry[2].coords[0] == (30, 40)
    assert (table["class"][2], table["at_class"][2], table["lon"][2]) == ("tug", 7, 1)


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"lon": "XX", "lat": "B"}, ["lon=XX", "--columns", "A, B"]),
        ({"place": "A"}, ["place=A", "lon, lat"]),
        ({"lon": "A"}, ["no columns of positions", "--columns"]),
    ],
)
def test_columns_that_do_not_exist(tmp_path, columns, parts):
    with pytest.raises(RequestError, match=mentions("a.csv", *parts)):
        read_annotations(written(tmp_path / "a.csv", "A,B\n1,2\n"), columns=columns)


def test_columns_need_a_table(tmp_path):
    path = written(tmp_path / "a.json", json.dumps([]))
    with pytest.raises(RequestError, match=mentions("a.json", "--columns")):
        read_annotations(path, columns={"lon": "X"})


SHAPES = [
    shapely.Point(500_000, 5_000_000),
    shapely.box(500_000, 5_000_000, 500_100, 5_000_050),
    None,
]


@pytest.mark.parametrize("suffix", ["parquet", "geoparquet"])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
def test_geoparquet(tmp_path, suffix, crs):
    frame = geopandas.GeoDataFrame(
        {"class": ["tug", "oil", None], "mmsi": [1, 2, 3]}, geometry=SHAPES, crs=crs
    )
    frame.to_parquet(tmp_path / f"a.{suffix}", write_covering_bbox=True)
    annotations = read_annotations(tmp_path / f"a.{suffix}")
    table = annotations.table
    assert CRS(annotations.crs) == CRS(crs) and not annotations.notes
    assert list(table.geometry) == SHAPES
    attributes = (
        table[["at", "class", "mmsi"]]
        .astype(object)
        .where(table["class"].notna(), None)
    )
    assert attributes.to_dict("list")["class"] == ["tug", "oil", None] and table[
        "at"
    ].tolist() == [0, 1, 2]
    assert "bbox" not in table


def test_parquet_with_columns_of_positions(tmp_path):
    pd.DataFrame(
        {"lng": [1.5, None], "lat": [2, 3], "type": ["tug", "oil"]}
    ).to_parquet(tmp_path / "a.parquet")
    annotations = read_annotations(tmp_path / "a.parquet")
    assert annotations.crs == "EPSG:4326" and annotations.table["class"].tolist() == [
        "tug",
        "oil",
    ]
    assert list(annotations.table.geometry) == [shapely.Point(1.5, 2), None]
    assert annotations.notes == [
        "a.parquet: by the names of columns: lon=lng, class=type"
    ]


def damage(**values):
    geo = {
        "primary_column": "geometry",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": []}},
    }
    return json.dumps(geo | values)


@pytest.mark.parametrize(
    ("geo", "parts"),
    [
        ("{", ["cannot be read"]),
        ("[]", ["cannot be read"]),
        (damage(primary_column="shape"), ["cannot be read", "shape"]),
        (damage(columns={"geometry": {"encoding": "point"}}), ["not WKB, but point"]),
        (
            damage(columns={"geometry": {"encoding": "WKB", "crs": "EPSG:1"}}),
            ["cannot be read"],
        ),
        (
            damage(columns={"geometry": {"encoding": "WKB", "covering": {"bbox": {}}}}),
            ["cannot be read"],
        ),
    ],
)
def test_damaged_geoparquet(tmp_path, geo, parts):
    frame = geopandas.GeoDataFrame({"a": [1]}, geometry=SHAPES[:1], crs=4326)
    frame.to_parquet(tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(
        table.replace_schema_metadata({b"geo": geo.encode()}), tmp_path / "a.parquet"
    )
    with pytest.raises(RequestError, match=mentions("a.parquet", *parts)):
        read_annotations(tmp_path / "a.parquet")


def test_a_file_that_is_no_parquet(tmp_path):
    with pytest.raises(RequestError, match=mentions("a.parquet", "cannot be read")):
        read_annotations(written(tmp_path / "a.parquet", "PAR1 no"))
