"""Positions that contradict their scene, and those that only look like it."""

from __future__ import annotations

import json

import pytest

from rsft.errors import RequestError
from rsft.scenes.positions import read_positions
from tests.helpers.files import written
from tests.helpers.messages import mentions


def coco(path, boxes, width=200, height=100):
    """Write boxes (x, y, width, height) in the image of the scene."""
    rows = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": box}
        for number, box in enumerate(boxes, 1)
    ]
    image = {"id": 1, "file_name": "s.tif", "width": width, "height": height}
    names = [{"id": 1, "name": "tug"}]
    content = {"images": [image], "categories": names, "annotations": rows}
    return written(path, json.dumps(content))


@pytest.mark.parametrize(
    "boxes",
    [
        [(0, 0, 200, 100)],
        [(1, 1, 200, 100)],  # the whole image, counted from 1
        [(150, 60, 52, 42)],  # reaches two pixels over the edge
        [(10, 10, 30, 20), (0, 0, 200, 100)],
        [(0.2, 0.3, 5, 4), (0.5, 0.5, 7, 7)],
        [(10, 10, 20, 20), (190, 90, 40, 40)],  # one of two lies outside
        [(10, 10, 4, 4), (10, 10, 4, 4), (50, 50, 4, 4), (80, 80, 4, 4)],
        [(0.1, 0.1, 0.5, 0.5), (50, 50, 9, 9)],  # one of two is smaller than a pixel
    ],
)
def test_boxes_that_are_read(bare, tmp_path, boxes):
    positions = read_positions(coco(tmp_path / "a.json", boxes), bare)
    assert len(positions.locations) + len(positions.outside) == len(boxes)


@pytest.mark.parametrize(
    ("boxes", "parts"),
    [
        ([(0.1, 0.2, 0.3, 0.4)], ["1 of 1", "first pixel", "row 1: x 0.1 to 0.4"]),
        (
            [(50, 40, 0.1, 0.2), (90, 40, 0.1, 0.2), (9, 9, 9, 9)],
            ["2 of 3", "smaller than a pixel", "row 2: x 90 to 90.1"],
        ),
        ([(50, 50, 3, 3)] * 3, ["3 of 3", "share one pixel", "row 3: x 50 to 53"]),
        (
            [(250, 20, 9, 9), (10, 150, 9, 9), (20, 20, 9, 9)],
            ["2 of 3", "outside", "200 x 100", "row 2: x 10 to 19, y 150 to 159"],
        ),
        ([(140, 60, 180, 90)], ["1 of 1", "width and height", "x 140 to 320"]),
    ],
)
def test_boxes_that_are_refused(bare, tmp_path, boxes, parts):
    path = coco(tmp_path / "a.json", boxes)
    with pytest.raises(RequestError, match=mentions("a.json", *parts)):
        read_positions(path, bare)


def test_three_examples_are_shown(scene, tmp_path):
    rows = [f"{500_000 + number},{4_999_000}" for number in range(9)]
    path = written(tmp_path / "a.csv", "\n".join(["lon,lat", "15.0,45.15", *rows]))
    with pytest.raises(RequestError, match=mentions("9 of 10", "degrees")) as error:
        read_positions(path, scene)
    assert error.value.message.count("row ") == 3


def test_degrees_beyond_half_a_turn_and_a_wrong_row_are_read(scene, tmp_path):
    rows = ["375.0005,45.1533", "15.001,45.152", "500000,4999000", "0,0"]
    path = written(tmp_path / "a.csv", "\n".join(["lon,lat", *rows]))
    positions = read_positions(path, scene)
    assert [item.source_row for item in positions.locations] == [2, 3]
    reasons = [reason for _, _, reason in positions.rejected]
    assert len(reasons) == 2 and "missing position" in reasons[1]


def test_pixels_of_other_scenes_are_left_out(bare, tmp_path):
    """A table without names of images may be that of a larger scene as well."""
    rows = ["10,20", "500,20", "600,700"]
    path = written(tmp_path / "a.csv", "\n".join(["row,col", *rows]))
    positions = read_positions(path, bare)
    assert (len(positions.locations), len(positions.outside)) == (1, 2)


def test_the_image_of_another_size(bare, tmp_path):
    path = coco(tmp_path / "a.json", [(10, 10, 9, 9)], width=100)
    with pytest.raises(RequestError, match=mentions("100 x 100", "200 x 100")):
        read_positions(path, bare)
