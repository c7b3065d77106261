"""Predictions go to labeling tools, and come back by the readers of annotations to the
same pixels."""

import json

import numpy as np
import pandas as pd
import pytest

from rsft.data.annotations.base import read_annotations
from rsft.errors import RequestError
from rsft.inference.options import PredictionRequest
from rsft.inference.predict.job import predict
from rsft.inference.writers.layer import PredictionLayer, SceneBoxes
from rsft.inference.writers.table_format import table_suffix
from rsft.inference.writers.tables import check_output_path, write_prediction_table
from rsft.plugins.annotation_formats.pre_annotations import CocoObjects
from rsft.scenes.options import ChipOptions, ChipSize
from rsft.scenes.query import Query
from tests.helpers.files import written
from tests.helpers.messages import mentions
from tests.helpers.scenes import CLASSES, UTM, use_toy_model, write_geotiff

UPRIGHT = (10, 20, 10, 60, 30, 60, 30, 20)  # rows and columns
# by 45 degrees; sides of 14.14 and 28.28 pixels
ROTATED = (
    40,
    100,
    30,
    110,
    50,
    130,
    60,
    120,
)
COUNTERCLOCKWISE = (60, 120, 50, 130, 30, 110, 40, 100)  # the same box
SCENES = {
    "a.tif": SceneBoxes(
        200, 100, {"a_1": UPRIGHT, "a_2": ROTATED, "a_3": COUNTERCLOCKWISE}
    ),
    "b.tif": SceneBoxes(50, 40, {}),
}
TABLE = pd.DataFrame(
    {
        "chip": ["a_1", "a_2", "a_3"],
        "scene": ["a.tif"] * 3,
        "class": ["tug", "oil", "tug"],
        "probability": [0.75, 0.5, 1 / 3],
        "geometry": [None] * 3,
    }
)


def corners_of(shape):
    return {tuple(np.round(corner, 6)) for corner in shape.exterior.coords}


def pixels(box):
    return {(x, y) for y, x in np.reshape(box, (4, 2)).tolist()}


def test_coco():
    layer = PredictionLayer(TABLE, None, ("oil", "tug"), {}, boxes=SCENES)
    content = CocoObjects().make_content(layer)
    assert content["images"][1] == {
        "id": 2,
        "file_name": "b.tif",
        "width": 50,
        "height": 40,
    }
    assert content["categories"] == [{"id": 1, "name": "oil"}, {"id": 2, "name": "tug"}]
    first, second, third = content["annotations"]
    assert first == {
        **{
            "id": 1,
            "image_id": 1,
            "category_id": 2,
            "bbox": [20, 10, 40, 20],
            "area": 800,
            "segmentation": [],
        },
        **{"iscrowd": 0, "score": 0.75, "chip": "a_1"},
    }
    assert second["bbox"] == [100, 30, 30, 30] and second["area"] == pytest.approx(400)
    assert second["segmentation"] == [[100, 40, 110, 30, 130, 50, 120, 60]]
    assert third["bbox"] == second["bbox"] and third["score"] == 0.333333


def test_coco_is_read_again(tmp_path):
    path = tmp_path / "out.coco.json"
    write_prediction_table(
        PredictionLayer(TABLE, None, ("oil", "tug"), {"job": "x"}, boxes=SCENES), path
    )
    assert json.loads(path.read_text())["info"]["job"] == "x"
    annotations = read_annotations(path)
    table = annotations.table
    assert (annotations.images, annotations.sizes) == (
        ("a.tif", "b.tif"),
        {"a.tif": (200, 100), "b.tif": (50, 40)},
    )
    assert table["class"].tolist() == ["tug", "oil", "tug"] and table[
        "_score"
    ].tolist() == [0.75, 0.5, 0.333333]
    assert table["chip"].tolist() == ["a_1", "a_2", "a_3"] and set(table["_image"]) == {
        "a.tif"
    }
    assert corners_of(table.geometry[1]) == pixels(UPRIGHT) and table.geometry[
        2
    ].bounds == (100, 30, 130, 60)


def test_label_studio_is_read_again_once_it_is_annotated(tmp_path):
    path = tmp_path / "out.labelstudio.json"
    layer = PredictionLayer(
        TABLE, None, ("oil", "tug"), {"bundle_sha256": "f" * 64}, boxes=SCENES
    )
    write_prediction_table(layer, path)
    assert len(read_annotations(path).table) == 0  # predictions are no annotations
    tasks = json.loads(path.read_text())
    predictions = [task["predictions"][0] for task in tasks]
    assert {x["model_version"] for x in predictions} == {"f" * 12}
    assert [task["data"]["image"] for task in tasks] == ["a.tif", "b.tif"]
    first, second, third = tasks[0]["predictions"][0]["result"]
    assert first["value"] == {
        "x": 10,
        "y": 10,
        "width": 20,
        "height": 20,
        "rotation": 0,
        "rectanglelabels": ["tug"],
    }
    assert (first["original_width"], first["original_height"], first["score"]) == (
        200,
        100,
        0.75,
    )
    assert second["value"]["rotation"] == 45
    assert third["value"] == second["value"] | {"rectanglelabels": ["tug"]}
    for task in tasks:  # as Label Studio makes an annotation of a prediction
        task["annotations"] = [
            {
                "id": 1,
                "was_cancelled": False,
                "result": task.pop("predictions")[0]["result"],
            }
        ]
    annotations = read_annotations(written(tmp_path / "export.json", json.dumps(tasks)))
    table = annotations.table
    assert table["class"].tolist() == ["tug", "oil", "tug"] and table[
        "at"
    ].tolist() == ["a_1", "a_2", "a_3"]
    for shape, box in zip(
        table.geometry, (UPRIGHT, ROTATED, COUNTERCLOCKWISE), strict=True
    ):
        scaled = [(x * 200, y * 100) for x, y in shape.exterior.coords]
        assert {tuple(np.round(corner, 4)) for corner in scaled} == pixels(box)


def test_suffixes(tmp_path):
    assert [
        table_suffix(tmp_path / name) for name in ("a.b.GPKG", "a.COCO.json", "a.json")
    ] == [".gpkg", ".coco.json", ".json"]
    with pytest.raises(
        RequestError, match=mentions("unknown format: .json", ".coco.json")
    ):
        check_output_path(tmp_path / "a.json", ())


@pytest.fixture
def scene(tmp_path, monkeypatch):
    use_toy_model(monkeypatch)
    pixels = np.random.default_rng(0).integers(1, 255, (60, 80), np.uint8)
    return write_geotiff(
        tmp_path / "scene.tif", pixels, crs="EPSG:32633", transform=UTM
    )


@pytest.mark.parametrize(
    ("at", "box"),
    [
        ("row,col\n20,30\n", (26, 16, 34, 24)),
        ("xmin,ymin,xmax,ymax\n10,5,40,15\n", (10, 5, 40, 15)),
    ],
)
def test_a_prediction_for_labeling_tools(scene, tmp_path, at, box):
    """A point has the box of its chip; positions on a georeferenced scene are written
    in pixels."""
    query = Query(at=written(tmp_path / "at.csv", at), crs="pixel")
    request = PredictionRequest(query, chip_options=ChipOptions(size=ChipSize(8)))
    predict(tmp_path, [scene], tmp_path / "out.coco.json", request)
    table = read_annotations(tmp_path / "out.coco.json").table
    assert (
        table.geometry[1].bounds == box
        and table["class"][1] in CLASSES
        and table["_image"][1] == "scene.tif"
    )
    predict(tmp_path, [scene], tmp_path / "out.labelstudio.json", request)
    (task,) = json.loads((tmp_path / "out.labelstudio.json").read_text())
    assert (
        task["data"] == {"image": "scene.tif"}
        and len(task["predictions"][0]["result"]) == 1
    )


def test_chips_have_no_boxes(scene, tmp_path):
    with pytest.raises(
        RequestError, match=mentions("out.coco.json", "inputs are chips", "--at")
    ):
        predict(tmp_path, [scene], tmp_path / "out.coco.json")
