"""Ground control points that contradict the others are found, and only these."""

import re

import numpy as np
import pytest
from rasterio.control import GroundControlPoint

from rsft.scenes.control_points import describe_outliers


def grid(rows, cols, heights=0.0):
    """Return points, and positions in meters with the curvature of a radar image."""
    row, col = np.meshgrid(
        np.linspace(0, 6000, rows), np.linspace(0, 8000, cols), indexing="ij"
    )
    row, col = row.ravel(), col.ravel()
    height = np.broadcast_to(heights, row.shape)
    # relief moves a point toward the radar
    x = 10 * col + 300 * (col / 8000) ** 2 - height / np.tan(np.radians(20 + col / 400))
    y = -10 * row + 100 * row * col / 6000 / 8000
    points = map(GroundControlPoint, row, col, x, y, height)
    return list(points), np.column_stack([x, y])


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 3), (3, 4), (4, 5), (10, 21)])
def test_honest_points_have_no_outliers(shape):
    assert describe_outliers(*grid(*shape)) == ""
    rng = np.random.default_rng(0)
    points, meters = grid(*shape, heights=rng.uniform(0, 2000, np.prod(shape)))
    assert describe_outliers(points, meters) == ""


@pytest.mark.parametrize("shape", [(3, 3), (4, 5), (10, 21)])
@pytest.mark.parametrize("index", [0, 4])
def test_a_wrong_point_is_found(shape, index):
    points, meters = grid(*shape)
    meters[index] += 3000, 4000
    text = describe_outliers(points, meters)
    assert text.startswith("1 of the points")
    assert f"row {points[index].row:g}, column {points[index].col:g}," in text
    pixels = int(re.search(r"up to (\d+) pixels", text)[1])
    assert pixels == pytest.approx(500, rel=0.1)


def test_several_wrong_points_are_found():
    points, meters = grid(10, 21)
    wrong = [3, 100, 180]
    meters[wrong] += [[2000, 0], [0, -3000], [500, 500]]
    row, col = points[100].row, points[100].col  # the worst one
    assert f"3 of the points, such as that at row {row:g}, column {col:g}, " in (
        describe_outliers(points, meters)
    )


def test_a_lonely_mountain_is_no_outlier():
    heights = np.zeros(210)
    heights[100] = 3700
    assert describe_outliers(*grid(10, 21, heights)) == ""
