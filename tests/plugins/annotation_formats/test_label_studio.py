"""Files as Label Studio writes them."""

import json

import numpy as np
import pytest

from rsft.data.annotations.base import read_annotations
from rsft.errors import RequestError
from tests.helpers.files import written
from tests.helpers.messages import mentions


def corners(shape):
    return np.array(shape.exterior.coords)[:4]


def region(kind, value, identity="r1", size=(200, 100), **values):
    sizes = (
        {"original_width": size[0], "original_height": size[1], "image_rotation": 0}
        if size
        else {}
    )
    result = sizes | {
        "value": value,
        "id": identity,
        "from_name": "label",
        "to_name": "image",
        "type": kind,
    }
    return result | {"origin": "manual"} | values


def rectangle(x, y, width, height, label="ship", rotation=0):
    return {
        "x": x,
        "y": y,
        "width": width,
        "height": height,
        "rotation": rotation,
        "rectanglelabels": [label],
    }


def annotation(number, *results, updated="2024-05-07T12:00:00Z", **values):
    return (
        {
            "id": number,
            "completed_by": 1,
            "result": list(results),
            "updated_at": updated,
        }
        | {
            "was_cancelled": False,
            "ground_truth": False,
        }
        | values
    )


SQUARE = {"x": 10, "y": 20, "width": 20, "height": 40, "rotation": 0}
TASKS = [
    {
        "id": 11,
        "data": {"image": "/data/upload/7/ab12cd34-a%20b.png", "orbit": "descending"},
        "predictions": [{"result": [region("rectanglelabels", rectangle(1, 1, 5, 5))]}],
        "annotations": [
            annotation(
                1,
                region(
                    "rectanglelabels",
                    rectangle(50, 50, 20, 10, "tanker", rotation=90),
                    "r1",
                ),
                region(
                    "polygonlabels",
                    {"points": [[0, 0], [50, 0], [25, 50]], "polygonlabels": ["oil"]},
                    "r2",
                ),
                region(
                    "keypointlabels",
                    {"x": 10, "y": 90, "width": 0.4, "keypointlabels": ["buoy"]},
                    "r3",
                ),
                region("rectangle", SQUARE, "r4"),
                region(
                    "choices", SQUARE | {"choices": ["fishing"]}, "r4", from_name="kind"
                ),
                region(
                    "choices", {"choices": ["rough", "windy"]}, "c1", from_name="sea"
                ),
                region(
                    "brushlabels",
                    {"format": "rle", "rle": [0, 1], "brushlabels": ["oil"]},
                    "r5",
                ),
                region(
                    "ellipselabels",
                    {
                        "x": 5,
                        "y": 5,
                        "radiusX": 1,
                        "radiusY": 2,
                        "ellipselabels": ["oil"],
                    },
                    "r6",
                ),
                {
                    "type": "relation",
                    "from_id": "r1",
                    "to_id": "r2",
                    "direction": "right",
                },
                region("rectanglelabels", rectangle(50, 50, 0, 10), "r7"),
                region(
                    "rectanglelabels",
                    rectangle(50, 50, 9, 9, rotation=5),
                    "r8",
                    size=None,
                ),
            ),
            annotation(
                2,
                region("rectanglelabels", rectangle(0, 0, 9, 9)),
                updated="2020-01-01T00:00:00Z",
            ),
            annotation(
                3,
                region("rectanglelabels", rectangle(0, 0, 8, 8)),
                updated="2030-01-01T00:00:00Z",
                was_cancelled=True,
            ),
        ],
    },
    {
        "id": 12,
        "data": {"image": "/data/local-files/?d=scenes/c.tif"},
        "annotations": [annotation(4)],
    },
    {"id": 13, "data": {"image": "https://example.org/d.png"}, "annotations": []},
]


def test_label_studio_json(tmp_path):
    studio = read_annotations(written(tmp_path / "a.json", json.dumps(TASKS)))
    assert (studio.crs, studio.images) == (
        "fraction",
        ("/data/upload/7/ab12cd34-a b.png", "scenes/c.tif", "/d.png"),
    )
    table = studio.table
    assert table["at"].tolist() == ["r1", "r2", "r3", "r4", "r7", "r8"]
    assert table["class"].tolist()[:4] == ["tanker", "oil", "buoy", "fishing"]
    # 40 x 10 pixels, rotated by 90 degrees around (100, 50)
    pixels = corners(table.geometry[1]) * (
        200,
        100,
    )
    assert pixels == pytest.approx(np.array([(100, 50), (90, 50), (90, 90), (100, 90)]))
    assert table.geometry[2].bounds == (0, 0, 0.5, 0.5)
    assert table.geometry[3].coords[0] == (0.1, 0.9)
    assert table.geometry[4].bounds == pytest.approx((0.1, 0.2, 0.3, 0.6))
    assert table["orbit"][1] == "descending"
    assert table["_fault"].tolist()[4:] == [
        "the box has no area",
        "original_width or original_height is missing",
    ]
    assert studio.notes == [
        "a.json: left out: 1 canceled annotations, 1 older annotations of the same"
        " task, 1 predictions, 1 tasks without an annotation, 1 labels of whole"
        " images, 1 masks, 1 ellipses, 1 relation"
    ]


def test_the_ground_truth_of_label_studio_is_preferred(tmp_path):
    old = annotation(
        1,
        region("rectanglelabels", rectangle(0, 0, 9, 9, "true")),
        ground_truth=True,
        updated="2020",
    )
    new = annotation(
        2, region("rectanglelabels", rectangle(0, 0, 9, 9, "new")), updated="2030"
    )
    task = {"id": 1, "data": {"image": "a.png"}, "annotations": [old, new]}
    assert read_annotations(written(tmp_path / "a.json", json.dumps([task]))).table[
        "class"
    ].tolist() == ["true"]


def test_json_min_is_refused(tmp_path):
    records = [{"image": "a.png", "id": 5, "annotation_id": 1, "label": []}]
    path = written(tmp_path / "a.json", json.dumps(records))
    with pytest.raises(RequestError, match=mentions("JSON-MIN", "export it again")):
        read_annotations(path)


@pytest.mark.parametrize(
    "content",
    [
        [{"data": {"image": "a"}, "annotations": 3}],
        [{"data": {"image": "a"}, "annotations": [3]}],
        [{"data": {}}, 3],
        [{"data": {"image": "a"}, "annotations": [{"result": [4]}]}],
        [{"annotation_id": 1}, {"id": 3}],
    ],
)
def test_damaged_json(tmp_path, content):
    with pytest.raises(RequestError, match=mentions("a.json", "export it again")):
        read_annotations(written(tmp_path / "a.json", json.dumps(content)))
