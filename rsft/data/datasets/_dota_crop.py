"""The window that is cut around an object of DOTA."""

from __future__ import annotations

import numpy as np

from rsft.errors import DataError

Window = tuple[int, int, int, int]  # x1 y1 x2 y2 in pixels; column x2 and row y2 lie outside


def crop_window(box: tuple[float, ...], width: int, height: int, margin: int = 0, min_side: int = 1) -> Window:
    """The horizontal bounding box of a rotated box, in whole pixels, clipped to an image of `width` x `height`.

    Fractions are rounded outwards; `margin` is added on each side; `min_side` is asked of the clipped box without it.

    Raises:
        DataError: a corner is NaN or infinite, or the box lies outside the image or is too small.
    """
    bounds = unclipped_window(box)
    x1, y1, x2, y2 = _clip(bounds, width, height)
    if min(x2 - x1, y2 - y1) <= 0 < min(bounds[2] - bounds[0], bounds[3] - bounds[1]):
        raise DataError(f"the box lies outside the image of {width} x {height} pixels")
    if min(x2 - x1, y2 - y1) < max(1, min_side):
        raise DataError(f"a box of {x2 - x1} x {y2 - y1} pixels, under the least side of {min_side}")
    return _clip(unclipped_window(box, margin), width, height)


def unclipped_window(box: tuple[float, ...], margin: int = 0) -> Window:
    """The same, wherever it lies.

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
    """What of `window` lies in the image; a side may become negative."""
    return max(0, window[0]), max(0, window[1]), min(width, window[2]), min(height, window[3])
