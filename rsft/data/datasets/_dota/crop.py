"""The crop window around an object of DOTA."""

from __future__ import annotations

import numpy as np

from rsft.errors import DataError

Window = tuple[int, int, int, int]
"""x1 y1 x2 y2 in pixels; column x2 and row y2 are outside the window."""


def crop_window(box: tuple[float, ...], width: int, height: int, margin: int = 0, min_side: int = 1) -> Window:
    """Return the horizontal bounding box of a rotated box in whole pixels, clipped to the image.

    Args:
        box: corners x1 y1 ... x4 y4 in pixels; fractions are rounded outwards.
        width: image width in pixels.
        height: image height in pixels.
        margin: pixels added on each side.
        min_side: minimum side in pixels of the clipped box without its margin.

    Returns:
        The window.

    Raises:
        DataError: a corner is NaN or infinite, or the box is outside the image or too small.
    """
    bounds = unclipped_window(box)
    x1, y1, x2, y2 = _clip(bounds, width, height)
    if min(x2 - x1, y2 - y1) <= 0 < min(bounds[2] - bounds[0], bounds[3] - bounds[1]):
        raise DataError(f"the box lies outside the image of {width} x {height} pixels")
    if min(x2 - x1, y2 - y1) < max(1, min_side):
        raise DataError(f"the box has {x2 - x1} x {y2 - y1} pixels; the minimum side is {min_side}")
    return _clip(unclipped_window(box, margin), width, height)


def unclipped_window(box: tuple[float, ...], margin: int = 0) -> Window:
    """Return the window of `crop_window` before clipping; it may extend beyond the image.

    Args:
        box: corners x1 y1 ... x4 y4 in pixels.
        margin: pixels added on each side.

    Returns:
        The window.

    Raises:
        DataError: a corner is NaN or infinite.
    """
    corners = np.reshape(box, (4, 2))
    if not np.isfinite(corners).all():
        raise DataError("a corner is NaN or infinite")
    x1, y1 = (np.floor(corners.min(axis=0)).astype(int) - margin).tolist()
    x2, y2 = (np.ceil(corners.max(axis=0)).astype(int) + margin).tolist()
    return x1, y1, x2, y2


def _clip(window: Window, width: int, height: int) -> Window:
    """Intersect a window with the image; a side of the result may be negative."""
    return max(0, window[0]), max(0, window[1]), min(width, window[2]), min(height, window[3])
