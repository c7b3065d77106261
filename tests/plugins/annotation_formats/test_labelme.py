"""Files as LabelMe writes them."""

import json

import pytest

from rsft.data.annotations.base import read_annotations
from rsft.errors import RequestError
from tests.helpers.files import written
from tests.helpers.messages import mentions


def labelme_shape(label, points, shape_type, **values):
    shape = {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": shape_type,
    }
    return shape | {"flags": {}, "mask": None} | values


LABELME = {
    "version": "5.5.0",
    "flags": {},
    "shapes": [
        labelme_shape(
            "ship",
            [[30.5, 40.0], [10.5, 20.0]],
            "rectangle",
            group_id=3,
            flags={"sure": True},
        ),
        labelme_shape(
            "barge", [[1, 1], [9, 2], [5, 8]], "polygon", description="moored"
        ),
        labelme_shape("buoy", [[7.5, 8.5]], "point"),
        labelme_shape("tank", [[50, 60], [53, 64]], "circle"),
        labelme_shape("wake", [[1, 1], [2, 2], [3, 1]], "linestrip"),
        labelme_shape("oil", [[1, 1], [2, 2]], "mask", mask="iVBORw0KGgo="),
        labelme_shape("ship", [[1, 1]], "rectangle"),
        labelme_shape("ship", [[1, "x"], [2, 2]], "rectangle"),
        labelme_shape("ship", None, "polygon"),
        7,
    ],
    "imagePath": "..\\images\\a.tif",
    "imageData": "/9j/4AAQ",
    "imageHeight": 480,
    "imageWidth": 640,
}


def test_labelme(tmp_path):
    labelme = read_annotations(written(tmp_path / "a.json", json.dumps(LABELME)))
    assert (labelme.crs, labelme.images) == ("pixel", ("..\\images\\a.tif",))
    assert labelme.sizes == {"..\\images\\a.tif": (640, 480)}
    assert labelme.notes == ["a.json: left out: 1 linestrip, 1 mask"]
    table = labelme.table
    assert table["at"].tolist() == [1, 2, 3, 4, 7, 8, 9, 10]
    assert table["class"].fillna("").tolist() == [
        "ship",
        "barge",
        "buoy",
        "tank",
        "ship",
        "ship",
        "ship",
        "",
    ]
    bounds = [shape.bounds for shape in table.geometry[:4]]
    assert bounds == [
        (10.5, 20, 30.5, 40),
        (1, 1, 9, 8),
        (7.5, 8.5, 7.5, 8.5),
        (45, 55, 55, 65),
    ]
    assert table["_fault"][7] == "a rectangle has two points" and all(
        table["_fault"][[8, 9, 10]]
    )
    assert not any(table["_fault"][:4])


@pytest.mark.parametrize("content", [{"shapes": 3, "imagePath": "a"}])
def test_damaged_shapes(tmp_path, content):
    with pytest.raises(RequestError, match=mentions("a.json", "export it again")):
        read_annotations(written(tmp_path / "a.json", json.dumps(content)))
