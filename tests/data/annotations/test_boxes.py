"""The names of YOLO classes, and the classes and image sizes of COCO."""

import json

import pytest

from rsft.data.annotations.base import read_annotations
from rsft.errors import RequestError
from tests.helpers.files import written
from tests.helpers.messages import mentions

ROWS = "0 0.5 0.5 0.2 0.1\n2 0.1 0.1 0.3 0.1 0.3 0.3 0.1 0.3 0.75\n"
COCO8 = (
    "# COCO8\npath: coco8 # root\ntrain: images/train\n\nnames:\n  0: no\n  1: tug\n "
    " 2: 007\n\ndownload: x.zip\n"
)


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("labels/train/classes.txt", "ship\ntug\noil rig\n", ["ship", "oil rig"]),
        ("labels/classes.txt", "ship\r\ntug\r\noil\r\n", ["ship", "oil"]),
        ("obj.names", "ship\ntug\noil\n", ["ship", "oil"]),
        (
            "data.yaml",
            "train: a\nnc: 3\nnames: ['ship', 'tug', \"oil rig\"]\n",
            ["ship", "oil rig"],
        ),
        ("data.yaml", COCO8, ["no", "007"]),
    ],
)
def test_names_of_yolo_classes(tmp_path, file, text, names):
    (tmp_path / "labels/train").mkdir(parents=True)
    written(tmp_path / file, text)
    annotations = read_annotations(written(tmp_path / "labels/train/a.txt", ROWS))
    assert (
        annotations.table["class"].tolist() == names
        and annotations.table["_score"].tolist()[1] == 0.75
    )
    assert annotations.notes == [f"the names of classes come from {tmp_path / file}"]


def test_the_nearest_names_count_and_missing_ones_are_counted(tmp_path):
    (tmp_path / "labels").mkdir()
    written(tmp_path / "data.yaml", "names: [a, b, c]")
    written(tmp_path / "labels/classes.txt", "ship\ntug\n")
    annotations = read_annotations(written(tmp_path / "labels/a.txt", ROWS))
    assert annotations.table["class"].tolist() == ["ship", "2"]
    assert (
        annotations.notes[1]
        == "classes.txt: no name for class 2, which keeps its number"
    )


def test_yolo_without_names(tmp_path):
    annotations = read_annotations(written(tmp_path / "a.txt", ROWS))
    assert annotations.table["class"].tolist() == [0, 2] and not annotations.notes


@pytest.mark.parametrize("text", ["names: 3", "[", "\x00", "[" * 5000, "[a]: b"])
def test_damaged_names(tmp_path, text):
    written(tmp_path / "data.yaml", text)
    with pytest.raises(
        RequestError, match=mentions("data.yaml", "names of classes", "list of names")
    ):
        read_annotations(written(tmp_path / "a.txt", ROWS))


def test_yaml_without_names_is_another_file(tmp_path):
    (tmp_path / "labels").mkdir()
    written(tmp_path / "labels/data.yaml", "a: b")
    written(tmp_path / "classes.txt", "ship\ntug\noil\n")
    assert read_annotations(written(tmp_path / "labels/a.txt", ROWS)).table[
        "class"
    ].tolist() == ["ship", "oil"]


def test_a_label_file_is_no_list_of_names(tmp_path):
    """A folder of labels in which an image is called classes."""
    annotations = read_annotations(written(tmp_path / "classes.txt", ROWS))
    assert annotations.table["class"].tolist() == [0, 2]


def test_classes_and_sizes_of_coco(tmp_path):
    images = [
        {"id": 1, "file_name": "a.tif", "width": 640, "height": 480},
        {"id": 2, "file_name": "b.tif", "width": 0},
    ]
    rows = [
        {"image_id": 1, "bbox": [1, 2, 3, 4], "category_id": number}
        for number in (7, 8)
    ]
    coco = {
        "type": "instances",
        "images": images,
        "categories": [{"id": 7, "name": "tug"}],
        "annotations": rows,
    }
    annotations = read_annotations(written(tmp_path / "a.json", json.dumps(coco)))
    assert annotations.table["class"].fillna("").tolist() == ["tug", ""]
    assert annotations.table["category"].fillna("").tolist() == ["tug", ""]
    assert annotations.sizes == {"a.tif": (640, 480)}


def test_corners_of_dota(tmp_path):
    (tmp_path / "a.txt").write_text("imagesource:x\n1 2 5 2 5 4 1 4 ship 1\n")
    annotations = read_annotations(tmp_path / "a.txt")
    (shape,) = annotations.table.geometry
    assert list(shape.exterior.coords)[:4] == [(1, 2), (5, 2), (5, 4), (1, 4)]
    assert annotations.table["class"].tolist() == ["ship"]
