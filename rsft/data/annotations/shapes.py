"""Shapes of objects in images, from the numbers with which formats describe them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike
from shapely.affinity import rotate
from shapely.errors import ShapelyError


def try_shape(
    make: Callable[..., shapely.Geometry], *values: Any
) -> tuple[shapely.Geometry | None, str]:
    """Return the shape that a function makes of values, or None and why it has none."""
    try:
        return make(*values), ""
    except KeyError as error:
        return None, f"{error.args[0]} is missing"
    except (TypeError, ValueError, OverflowError) as error:
        return None, str(error)
    except ShapelyError:  # corners of a rotated shape, from numbers without limits
        return None, "the shape has corners that are no numbers"


def make_box(
    left: float, top: float, right: float, bottom: float, *, degrees: float = 0
) -> shapely.Polygon:
    """Return a box, rotated around its center.

    The rotation is clockwise as seen in an image, whose y axis points down.

    Raises:
        ValueError: a number is not finite, or the box has no area, or its last side
            comes before its first one.
    """
    if left > right or top > bottom:
        raise ValueError("the box ends before it begins")
    box = make_polygon([(left, top), (left, bottom), (right, bottom), (right, top)])
    if not degrees:
        return box
    if not math.isfinite(degrees):
        raise ValueError("the rotation is not a number")
    return make_polygon(shapely.get_coordinates(rotate(box, degrees))[:-1])


def make_centered_box(
    x: float, y: float, width: float, height: float, *, degrees: float = 0
) -> shapely.Polygon:
    """Return a box around a center, see `make_box`."""
    return make_box(
        x - width / 2, y - height / 2, x + width / 2, y + height / 2, degrees=degrees
    )


def make_polygon(corners: ArrayLike) -> shapely.Polygon:
    """Return the polygon of corners (N, 2).

    Raises:
        ValueError: a corner is not finite, or the polygon has no area.
    """
    corners = np.asarray(corners, float)
    if corners.ndim != 2 or len(corners) < 3:
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
