"""Find ground control points that contradict the others.

The spline through all points follows a wrong one, so it has no residuals. A polynomial
does: each point is compared with that of the other points.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rasterio.control import GroundControlPoint

from rsft.types import Floats, Indices

_MIN_PIXELS = 3.0  # what a shift of a chip begins to matter for
_MIN_RATIO = 5.0  # to the largest residual of the other points
_SPARE_POINTS = 3  # more points than terms, or the residuals say nothing


class Outlier(NamedTuple):
    """A ground control point, and its distance from where the others put it."""

    row: float
    col: float
    pixels: float


def find_outliers(
    points: Sequence[GroundControlPoint], meters: Floats
) -> list[Outlier]:
    """Return the ground control points that contradict all others.

    At most a tenth of the points, or one, is found. A point that is higher or lower
    than all others may be displaced by its height, and is none.

    Args:
        points: row, column and height of each point.
        meters: their positions (N, 2) in a plane.

    Returns:
        The points, the worst first.
    """
    terms = _polynomial(points)
    kept = np.arange(len(points))
    left_out: list[int] = []
    for _ in range(max(1, len(points) // 10)):
        if len(kept) <= terms.shape[1] + _SPARE_POINTS:
            break
        worst = int(np.argmax(_cross_residuals(terms[kept], meters[kept])))
        left_out.append(int(kept[worst]))
        kept = np.delete(kept, worst)
        errors = _errors(terms, meters, kept)[left_out]
        level = _cross_residuals(terms[kept], meters[kept]).max()
        spacing = _spacing(points, meters, kept)
        if errors.min() > max(_MIN_RATIO * level, _MIN_PIXELS * spacing):
            heights = np.array([point.z or 0.0 for point in points])
            if _is_between(heights[left_out], heights[kept]):
                return _outliers(points, left_out, errors / spacing)
    return []


def describe_outliers(outliers: Sequence[Outlier]) -> str:
    """Return a sentence about at least one outlier."""
    first = outliers[0]
    point = f"row {first.row:g}, column {first.col:g}"
    if len(outliers) == 1:
        return (
            f"the point at {point} lies {first.pixels:,.0f} pixels from where the"
            " others put it"
        )
    return (
        f"{len(outliers)} points, such as that at {point}, lie up to"
        f" {first.pixels:,.0f} pixels from where the others put them"
    )


def _polynomial(points: Sequence[GroundControlPoint]) -> Floats:
    """Return the terms of a polynomial of row, column and height at points (N, T).

    Its degree is 1 to 3, depending on the number of points.
    """
    count = len(points)
    pixels = np.array([(point.row, point.col) for point in points], float)
    spread = np.ptp(pixels, axis=0)
    rows, cols = ((pixels - pixels.mean(axis=0)) / np.where(spread, spread, 1)).T
    degree = 1 + (count >= 12) + (count >= 30)
    terms = []
    for total in range(degree + 1):
        terms += [rows**power * cols ** (total - power) for power in range(total + 1)]
    heights = np.array([point.z or 0.0 for point in points])
    if np.ptp(heights):
        heights = (heights - heights.mean()) / np.ptp(heights)
        terms += [heights, heights * cols]
    return np.column_stack(terms)


def _cross_residuals(terms: Floats, meters: Floats) -> Floats:
    """Return how far each point is from the polynomial of all others (N,)."""
    basis = np.linalg.qr(terms)[0]
    residuals = meters - basis @ (basis.T @ meters)
    leverage = (basis**2).sum(axis=1)
    distances = np.linalg.norm(residuals, axis=1) / np.maximum(1 - leverage, 1e-9)
    return np.asarray(distances)


def _errors(terms: Floats, meters: Floats, kept: Indices) -> Floats:
    """Return how far each point is from the polynomial of the kept ones (N,)."""
    factors = np.linalg.lstsq(terms[kept], meters[kept], rcond=None)[0]
    return np.asarray(np.linalg.norm(meters - terms @ factors, axis=1))


def _spacing(
    points: Sequence[GroundControlPoint], meters: Floats, kept: Indices
) -> float:
    """Return the mean pixel spacing in meters between the kept points."""
    pixels = np.array([(points[index].row, points[index].col) for index in kept])
    pixel_spread = np.ptp(pixels, axis=0).max()
    return float(np.ptp(meters[kept], axis=0).max() / max(pixel_spread, 1))


def _is_between(values: Floats, others: Floats) -> bool:
    return bool(others.min() <= values.min() and values.max() <= others.max())


def _outliers(
    points: Sequence[GroundControlPoint], indices: Sequence[int], pixels: Floats
) -> list[Outlier]:
    outliers = []
    for index, distance in zip(indices, pixels.tolist(), strict=True):
        outliers.append(Outlier(points[index].row, points[index].col, distance))
    return sorted(outliers, key=lambda outlier: -outlier.pixels)
