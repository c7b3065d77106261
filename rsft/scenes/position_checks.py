"""Refuse a file of positions whose numbers contradict its scene.

Each check looks at all positions of a file. A file is refused if more than half of them
contradict the scene, and the message has three examples. A few wrong rows among right
ones are counted and left out elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pyproj import CRS

from rsft.data.annotations.base import FRACTION, PIXEL, Annotations
from rsft.data.annotations.table_checks import refuse_most
from rsft.errors import RequestError
from rsft.scenes.locations import Location, SceneLocations
from rsft.scenes.raster import RasterScene
from rsft.types import Floats

_MAX_DEGREES = (540.0, 90.0)
"""Largest longitude and latitude; longitudes of 0 to 360 are shifted by half a turn."""

_SHARED_PIXEL = 3
"""As many objects in one pixel are not different objects."""

_REACH = 0.1
"""Share of its side by which a box may reach over the edge of its image."""

_REACH_PIXELS = 2.0
"""Number of pixels by which any box may reach over the edge of its image."""


def check_positions(
    positions: SceneLocations, annotations: Annotations, scene: RasterScene
) -> None:
    """Check that positions do not contradict their scene.

    Args:
        positions: all positions of the file, also those outside of the scene.
        annotations: the content of the file.
        scene: the scene.

    Raises:
        RequestError: they do.
    """
    _check_degrees(positions, annotations)
    _check_image_size(positions, annotations, scene)
    if positions.locations:
        _check_locations(positions, annotations, scene)


def _check_degrees(positions: SceneLocations, annotations: Annotations) -> None:
    """Check that coordinates of a system in degrees are degrees.

    Raises:
        RequestError: most of them are not.
    """
    crs = positions.crs
    if crs in (PIXEL, FRACTION) or not CRS.from_user_input(crs).is_geographic:
        return
    bounds = annotations.table.bounds.abs().dropna()

    def describe(row: int) -> str:
        x, y = bounds.iloc[row, :2]
        return f"row {bounds.index[row]}: x {x:.10g}, y {y:.10g}"

    refuse_most(
        positions.file,
        (bounds > np.tile(_MAX_DEGREES, 2)).any(axis=1),
        f"positions are no degrees, but their coordinate system is {crs[:40]}",
        describe,
        "state their coordinate system: GeoJSON without one is in degrees, and so are"
        " columns lon and lat; write a GeoPackage, or columns x and y with --crs",
    )


def _check_image_size(
    positions: SceneLocations, annotations: Annotations, scene: RasterScene
) -> None:
    """Check that pixels are those of an image with the size of the scene.

    Raises:
        RequestError: the file states another size.
    """
    sizes = [annotations.sizes.get(name) for name in annotations.images]
    if positions.crs != PIXEL or len(sizes) != 1 or not sizes[0]:
        return
    if sizes[0] == (scene.width, scene.height):
        return
    width, height = sizes[0]
    raise RequestError(
        f"the positions are pixels of an image of {width:,} x {height:,} pixels, but"
        f" {scene.path.name} has {scene.width:,} x {scene.height:,}",
        positions.file,
        "give the image that was labeled; if its positions are those of the scene,"
        " correct the size that the file states",
    )


def _check_locations(
    positions: SceneLocations, annotations: Annotations, scene: RasterScene
) -> None:
    """Check that positions are different objects which fit into the scene.

    Raises:
        RequestError: most objects lie in the first pixel, in one pixel, or outside of
            the image that the file names, or sizes of boxes are fractions or corners.
    """
    locations = positions.locations
    extents = np.array([_find_extent(x) for x in locations])
    is_inside = np.array([x.is_inside(scene) for x in locations])
    is_image = positions.crs in (PIXEL, FRACTION)

    def refuse(is_wrong: Any, reason: str, hint: str) -> None:
        refuse_most(
            positions.file,
            is_wrong,
            f"objects {reason}",
            lambda row: _describe(locations[row]),
            hint,
        )

    if is_image:
        sizes = extents[:, 2:] - extents[:, :2]
        is_first = ((extents >= 0) & (extents <= 1)).all(axis=1)
        refuse(
            is_first | ((sizes > 0) & (sizes < 1)).all(axis=1),
            "lie in the first pixel, as fractions (0 to 1) do, or are smaller than a"
            " pixel",
            "multiply fractions by the width and height of the image, or write YOLO;"
            " write numbers without points for thousands",
        )
    _, numbers, counts = np.unique(
        np.floor(extents), axis=0, return_inverse=True, return_counts=True
    )
    is_shared = (numbers.ravel() == counts.argmax()) & is_inside
    refuse(
        is_shared & (counts.max() >= _SHARED_PIXEL),
        f"share one pixel of {scene.path.name}",
        "check whether the coordinates were rounded, and their coordinate system",
    )
    if not is_image or not (annotations.images or annotations.are_boxes):
        return
    _check_corners(positions, extents, scene)
    refuse(
        ~is_inside,
        f"lie outside of their image, {scene.path.name} ({scene.width:,} x"
        f" {scene.height:,} pixels)",
        "check that the file belongs to this image, and that x is the column",
    )


def _find_extent(location: Location) -> tuple[float, float, float, float]:
    """Return top, left, bottom and right, which are equal for a point."""
    if location.extent:
        return location.extent
    return location.row, location.col, location.row, location.col


def _check_corners(
    positions: SceneLocations, extents: Floats, scene: RasterScene
) -> None:
    """Check that the sizes of boxes are no corners.

    Boxes that reach over the edge, and fit if their size is the opposite corner, were
    written as x1, y1, x2, y2.

    Raises:
        RequestError: they were.
    """
    limits = np.array(scene.size)
    first = extents[:, :2]
    last = extents[:, 2:]
    sizes = last - first
    tolerance = np.maximum(_REACH_PIXELS, _REACH * sizes)
    reaches = ((first < -tolerance) | (last > limits + tolerance)).any(axis=1)
    if not reaches.any():
        return
    for start in (first, (first + last) / 2):  # x and y are the corner or the center
        fits = (sizes > start) & (start >= 0) & (sizes <= limits)
        if fits.all():
            example = _describe(positions.locations[reaches.argmax()])
            raise RequestError(
                f"{reaches.sum():,} of {len(extents):,} boxes reach over the edge of"
                f" {scene.path.name}; all lie in it if their width and height are x and"
                f" y of the opposite corner: {example}",
                positions.file,
                "write width and height in place of the second corner",
            )


def _describe(location: Location) -> str:
    top, left, bottom, right = _find_extent(location)
    text = f"x {left:.6g}, y {top:.6g}"
    if location.extent:
        text = f"x {left:.6g} to {right:.6g}, y {top:.6g} to {bottom:.6g}"
    return f"row {location.source_row}: {text}"
