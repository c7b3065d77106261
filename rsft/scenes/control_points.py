"""Find ground control points that contradict the others.

The spline through all points follows a wrong one, so it has no residuals. A polynomial
does: each point is compared with that of the other points.
"""

from collections.abc import Sequence

import numpy as np
from rasterio.control import GroundControlPoint

from rsft.types import Floats

_MIN_PIXELS = 3.0  # what a shift of a chip begins to matter for
_MIN_RATIO = 5.0  # to the largest residual of the other points
_SPARE_POINTS = 3  # more points than terms, or the residuals say nothing


def describe_outliers(points: Sequence[GroundControlPoint], meters: Floats) -> str:
    """Return a sentence about the ground control points that contradict all others.

    At most a tenth of the points, or one, is found. A point that is higher or lower
    than all others may be displaced by its height, and is none.

    Args:
        points: row, column and height of each point.
        meters: their positions (N, 2) in a plane.

    Returns:
        The sentence; "" without such a point.
    """
    table = np.array([(point.row, point.col, point.z or 0.0) for point in points])
    pixels, heights = table[:, :2], table[:, 2]
    terms = _polynomial(pixels, heights)
    kept = np.arange(len(points))
    left_out: list[int] = []
    for _ in range(max(1, len(points) // 10)):
        if len(kept) <= terms.shape[1] + _SPARE_POINTS:
            break
        worst = int(np.argmax(_cross_residuals(terms[kept], meters[kept])))
        left_out.append(int(kept[worst]))
        kept = np.delete(kept, worst)
        factors = np.linalg.lstsq(terms[kept], meters[kept], rcond=None)[0]
        errors = np.linalg.norm(meters - terms @ factors, axis=1)[left_out]
        level = _cross_residuals(terms[kept], meters[kept]).max()
        spread = max(np.ptp(pixels[kept], axis=0).max(), 1)
        spacing = np.ptp(meters[kept], axis=0).max() / spread
        low, high = heights[kept].min(), heights[kept].max()
        is_between = ((heights[left_out] >= low) & (heights[left_out] <= high)).all()
        is_far = errors.min() > max(_MIN_RATIO * level, _MIN_PIXELS * spacing)
        if is_far and is_between:
            row, col = pixels[left_out[errors.argmax()]]
            return (
                f"{len(left_out)} of the points, such as that at row {row:g}, column"
                f" {col:g}, lie up to {errors.max() / spacing:,.0f} pixels from where"
                " the others put them"
            )
    return ""


def _polynomial(pixels: Floats, heights: Floats) -> Floats:
    """Return the terms of a polynomial at points (N, T).

    Its degree is 1 to 3, depending on the number of points.

    Args:
        pixels: row and column of each point (N, 2).
        heights: heights (N,).
    """
    count = len(pixels)
    spread = np.ptp(pixels, axis=0)
    rows, cols = ((pixels - pixels.mean(axis=0)) / np.where(spread, spread, 1)).T
    degree = 1 + (count >= 12) + (count >= 30)
    terms = []
    for total in range(degree + 1):
        terms += [rows**power * cols ** (total - power) for power in range(total + 1)]
    if np.ptp(heights):
        scaled = (heights - heights.mean()) / np.ptp(heights)
        terms += [scaled, scaled * cols]
    return np.column_stack(terms)


def _cross_residuals(terms: Floats, meters: Floats) -> Floats:
    """Return how far each point is from the polynomial of all others (N,)."""
    basis = np.linalg.qr(terms)[0]
    residuals = meters - basis @ (basis.T @ meters)
    leverage = (basis**2).sum(axis=1)
    distances = np.linalg.norm(residuals, axis=1) / np.maximum(1 - leverage, 1e-9)
    return np.asarray(distances)
