"""Shapes of objects in images, from the numbers with which formats describe them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import shapely

from rsft.types import Floats


def try_shape(make: Callable[..., shapely.Geometry], *values: Any) -> tuple[shapely.Geometry | None, str]:
    """Return the shape that a function makes of values, or None and why it cannot be made."""
    try:
        return make(*values), ""
    except KeyError as error:
        return None, f"{error.args[0]} is missing"
    except (TypeError, ValueError, OverflowError) as error:
        return None, str(error)


def upright_corners(left: float, top: float, right: float, bottom: float) -> Floats:
    """Return the corners of an upright box as x and y (4, 2)."""
    return np.array([(left, top), (left, bottom), (right, bottom), (right, top)], float)


def rotate_corners(corners: Floats, degrees: float, pivot: tuple[float, float]) -> Floats:
    """Rotate corners (N, 2) clockwise, as seen in an image, whose y axis points down."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.asarray((corners - pivot) @ np.array([(cos, sin), (-sin, cos)]) + pivot, float)


def make_polygon(corners: Floats) -> shapely.Polygon:
    """Return the polygon of corners (N, 2).

    Raises:
        ValueError: a corner is not finite, or the polygon has no area.
    """
    if np.ndim(corners) != 2 or len(corners) < 3:
        raise ValueError("the polygon has fewer than 3 points")
    if not np.isfinite(corners).all() or np.ptp(corners, axis=0).min() <= 0:
        raise ValueError("the box has no area")
    return shapely.Polygon(corners)


def make_point(x: float, y: float) -> shapely.Point:
    """Return a point.

    Raises:
        ValueError: a coordinate is not finite.
    """
    if not np.isfinite((x, y)).all():
        raise ValueError("the position is not a number")
    return shapely.Point(x, y)
