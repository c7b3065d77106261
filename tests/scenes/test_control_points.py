"""Ground control points that contradict the others are found, and only these."""

import numpy as np
import pytest
from rasterio.control import GroundControlPoint

from rsft.scenes.control_points import describe_outliers, find_outliers


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
    assert find_outliers(*grid(*shape)) == []
    rng = np.random.default_rng(0)
    points, meters = grid(*shape, heights=rng.uniform(0, 2000, np.prod(shape)))
    assert find_outliers(points, meters) == []


@pytest.mark.parametrize("shape", [(3, 3), (4, 5), (10, 21)])
@pytest.mark.parametrize("index", [0, 4])
def test_a_wrong_point_is_found(shape, index):
    points, meters = grid(*shape)
    meters[index] += 3000, 4000
    (outlier,) = find_outliers(points, meters)
    assert (outlier.row, outlier.col) == (points[index].row, points[index].col)
    assert outlier.pixels == pytest.approx(500, rel=0.1)
    text = describe_outliers([outlier])
    assert f"row {outlier.row:g}, column {outlier.col:g}" in text


def test_several_wrong_points_are_found():
    points, meters = grid(10, 21)
    wrong = [3, 100, 180]
    meters[wrong] += [[2000, 0], [0, -3000], [500, 500]]
    outliers = find_outliers(points, meters)
    rows = {(points[index].row, points[index].col) for index in wrong}
    assert {(outlier.row, outlier.col) for outlier in outliers} == rows
    assert "3 of the points" in describe_outliers(outliers)


def test_a_lonely_mountain_is_no_outlier():
    heights = np.zeros(210)
    heights[100] = 3700
    assert find_outliers(*grid(10, 21, heights)) == []
