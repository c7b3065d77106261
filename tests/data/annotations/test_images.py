"""The objects of one image, from a file with many images or a folder with many
files."""

import json
from pathlib import Path

import geopandas
import pytest
import shapely

from rsft.data.annotations.images import find_annotations
from rsft.errors import DataError, RequestError
from tests.helpers.files import written
from tests.helpers.messages import mentions


def coco(*names):
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    rows = [
        {"id": 10 + number, "image_id": number, "bbox": [1, 2, 3, 4]}
        for number in range(len(names))
    ]
    return json.dumps({"images": images, "annotations": rows})


@pytest.mark.parametrize(
    ("names", "image", "at", "rule"),
    [
        (("a.tif", "b.tif"), "x/b.tif", 11, None),
        (("b.png", "x/b.tif"), "x/b.tif", 11, None),
        (("y/b.tif", "x/b.tif"), "/data/x/b.tif", 11, None),
        (("x\\a.tif", "x\\b.tif"), "/data/x/b.tif", 11, None),
        (("a.png", "b.png"), "x/b.tif", 11, "without its suffix"),
        (
            ("/data/upload/1/0f12cd34-b.png", "c.png"),
            "b.tif",
            10,
            "without the prefix of an upload",
        ),
        (
            ("590dd08f71056cacv", "b1844cde847a3942v"),
            "/b1844cde847a3942v/VV_dB.tif",
            11,
            "the name of its folder",
        ),
    ],
)
def test_the_image_of_a_file(tmp_path, names, image, at, rule):
    path = written(tmp_path / "all.json", coco(*names))
    annotations = find_annotations(path, Path(image))
    assert annotations.table["at"].tolist() == [at] and annotations.images == (
        names[at - 10],
    )
    assert annotations.path == path
    name = Path(image).name
    assert annotations.notes == (
        [f"all.json: the image {names[at - 10]} is taken as {name}: {rule}"]
        if rule
        else []
    )


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("y/b.tif", "z/b.tif"), ["several of its images", "y/b.tif, z/b.tif"]),
        (
            ("0f12cd34-b.png", "ab12cd34-b.png"),
            ["several of its images", "0f12cd34-b.png, ab12cd34-b.png"],
        ),
        (("a.tif", "c.tif"), ["none of its 2 images", "b.tif"]),
        (("a.tif",), ["none of its 1 images", "b.tif"]),
    ],
)
def test_a_file_without_the_image_or_with_two(tmp_path, names, parts):
    path = written(tmp_path / "all.json", coco(*names))
    with pytest.raises(DataError, match=mentions("all.json", *parts)):
        find_annotations(path, tmp_path / "b.tif")


def test_a_file_that_names_no_image_belongs_to_all(tmp_path):
    path = written(tmp_path / "all.csv", "row,col\n1,2\n3,4\n")
    assert len(find_annotations(path, tmp_path / "b.tif").table) == 2


def test_a_folder_with_one_file_per_image(tmp_path):
    written(tmp_path / "a.json", coco("a.png"))
    written(tmp_path / "b.tif.json", coco("b.tif"))
    written(tmp_path / "c.txt", "0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.2 0.2\n")
    written(tmp_path / "classes.txt", "ship\n")
    written(tmp_path / "c.tif.aux.xml", "<PAMDataset/>")
    frame = geopandas.GeoDataFrame(geometry=[shapely.Point(1, 2)] * 3, crs=4326)
    frame.to_file(tmp_path / "d.gpkg")
    frame.to_parquet(tmp_path / "e.parquet")
    counts = {
        name: len(find_annotations(tmp_path, tmp_path / f"{name}.tif").table)
        for name in "abcde"
    }
    assert counts == {"a": 1, "b": 1, "c": 2, "d": 3, "e": 3}
    assert find_annotations(tmp_path, tmp_path / "c.tif").path == tmp_path / "c.txt"
    with pytest.raises(
        DataError, match=mentions("no file of positions for f.tif", "f.txt")
    ):
        find_annotations(tmp_path, tmp_path / "f.tif")


def test_a_file_with_the_name_of_the_image_may_name_another(tmp_path):
    written(tmp_path / "b.json", coco("000001.jpg"))
    annotations = find_annotations(tmp_path, tmp_path / "b.tif")
    assert len(annotations.table) == 1
    assert annotations.notes == [
        "b.json: the image 000001.jpg is taken as b.tif: by the name of the file"
    ]


def test_a_folder_whose_files_name_the_images_inside(tmp_path):
    written(tmp_path / "annotations.json", coco("a.tif"))
    written(tmp_path / "val.json", coco("b.tif", "c.tif"))
    written(tmp_path / "notes.json", '{"a": 3}')
    written(tmp_path / "x.txt", "0 0.5 0.5 0.1 0.1\n")
    assert (
        find_annotations(tmp_path, tmp_path / "a.tif").path.name == "annotations.json"
    )
    assert find_annotations(tmp_path, tmp_path / "c.tif").table["at"].tolist() == [11]
    written(tmp_path / "train.json", coco("c.tif"))
    with pytest.raises(
        RequestError, match=mentions("2 files for c.tif", "train.json, val.json")
    ):
        find_annotations(tmp_path, tmp_path / "c.tif")


def test_two_files_for_one_image(tmp_path):
    written(tmp_path / "a.json", coco("a.tif"))
    written(tmp_path / "a.txt", "")
    with pytest.raises(
        RequestError,
        match=mentions(str(tmp_path), "2 files for a.tif", "a.json, a.txt"),
    ):
        find_annotations(tmp_path, tmp_path / "a.tif")


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(RequestError, match=mentions("no such file", "none")):
        find_annotations(tmp_path / "none", tmp_path / "a.tif")
