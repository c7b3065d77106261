"""Shapes from the numbers of labeling tools."""

import math

import numpy as np
import pytest

from rsft.data.annotations.shapes import (
    make_box,
    make_centered_box,
    make_point,
    make_polygon,
    try_shape,
)


def corners(shape):
    return np.round(shape.exterior.coords[:-1], 6).tolist()


def test_a_box_has_four_corners():
    assert corners(make_box(1, 2, 5, 4)) == [[1, 2], [1, 4], [5, 4], [5, 2]]
    assert make_centered_box(3, 3, 4, 2).bounds == (1, 2, 5, 4)


def test_rotations_are_clockwise_in_an_image():
    # y points down, so the right side turns down
    turned = make_box(0, 0, 4, 2, degrees=90)
    assert turned.bounds == pytest.approx((1, -1, 3, 3))
    assert corners(turned)[0] == [3, -1]  # the upper left corner turns right


@pytest.mark.parametrize("degrees", [math.nan, math.inf])
def test_a_rotation_must_be_finite(degrees):
    shape, reason = try_shape(lambda: make_box(0, 0, 4, 2, degrees=degrees))
    assert (shape, reason) == (None, "the rotation is not a number")


def test_a_box_that_overflows_has_no_shape():
    side = 1.7e308
    assert try_shape(lambda: make_box(-side, -side, side, side, degrees=45))[0] is None


def test_points_and_polygons():
    assert make_point(1.5, -2).coords[0] == (1.5, -2)
    assert make_polygon([(0, 0), (4, 0), (0, 3)]).area == 6


@pytest.mark.parametrize(
    "points",
    [
        [(0, 0), (1, 1)],
        [(0, 0), (1, 0), (2, 0)],
        [(0, 0), (1, math.nan), (2, 1)],
        [0, 1, 2],
        [],
    ],
)
def test_what_is_no_polygon(points):
    with pytest.raises(ValueError, match=r"fewer than 3 points|no area"):
        make_polygon(points)


def test_a_point_must_be_finite():
    with pytest.raises(ValueError, match="not a number"):
        make_point(math.inf, 0)


def test_reasons_in_place_of_errors():
    assert try_shape(make_point, 1, 2) == (make_point(1, 2), "")
    assert try_shape(make_point, "a", 2)[0] is None
    assert try_shape(lambda values: values["x"], {}) == (None, "x is missing")
    assert try_shape(make_box, 1, 1, 1, 2) == (None, "the box has no area")
