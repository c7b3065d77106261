"""Read the positions of objects in a scene, from a file of annotations or a layer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from pyproj import CRS
from pyproj.exceptions import ProjError

from rsft.data.annotations.base import (
    FAULT,
    FRACTION,
    IMAGE,
    PIXEL,
    SCORE,
    Annotations,
    check_vessels,
)
from rsft.data.annotations.images import find_annotations
from rsft.errors import RequestError
from rsft.scenes.georeference import open_lonlat
from rsft.scenes.locations import NUDGE, Location, SceneLocations
from rsft.scenes.position_checks import check_positions
from rsft.scenes.raster import RasterScene
from rsft.types import Floats

_MAX_COORDINATE = 1e9
"""Rows and columns of a position are below it: GEOS finds no rectangle around much
larger numbers."""

_SHAPES = ("Point", "Polygon", "MultiPolygon")

_ToPixels = Callable[[Floats], Floats]
"""A function from x and y (K, 2) to row and column (K, 2)."""


def read_positions(
    path: Path,
    scene: RasterScene,
    crs: str | None = None,
    layer: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> SceneLocations:
    """Read the positions that lie in a scene.

    A note counts the others: one file may cover several scenes.

    Args:
        path: a file in one of the formats of `rsft.data.annotations`, or a folder with
            one file per scene.
        scene: the scene; of a file with several images, that of its name is read.
        crs: coordinate system of the positions, if their file does not name one:
            EPSG:32633, or "pixel", which is column and row, or column and -row.
        layer: name of the layer, if the file has several layers.
        columns: names of columns by their role, see `read_annotations`.

    Returns:
        The locations in the scene with their attributes, and the rows that cannot be
        used.

    Raises:
        RequestError: the file does not exist, is empty or has an unknown format, its
            coordinate system is missing or unusable, its coordinates are exchanged, or
            its rows are the messages of vessels (AIS) rather than one position per
            vessel.
        DataError: the file has images, but none with the name of the scene.
    """
    folder = (scene.path.path or Path()).absolute().parent
    positions = find_annotations(path, folder / scene.path.name, layer, columns)
    path = positions.path
    crs = positions.crs or crs or _find_pixels(positions, scene)
    positions = _turn_rows(positions, crs)
    to_pixels = _pixel_transform(path, scene, crs)
    result = SceneLocations(
        notes=list(positions.notes), file=path, crs=crs, are_boxes=positions.are_boxes
    )
    shapes = _add_locations(result, positions, scene, to_pixels)
    inside = [location for location in result.locations if location.is_inside(scene)]
    if not positions.are_boxes:
        boxes = [location.box for location in result.locations]
        result.are_boxes = bool(boxes) and None not in boxes
    result.notes += _find_exchange(result, shapes, len(inside), scene, to_pixels)
    check_positions(result, positions, scene)
    _leave_out_others(result, inside, scene)
    names = [positions.table.geometry.name, SCORE, IMAGE, FAULT]
    attributes = pd.DataFrame(positions.table.drop(columns=names))
    result.attributes = attributes.loc[[location.source_row for location in inside]]
    check_vessels(path, result.attributes)
    return result


def _find_pixels(positions: Annotations, scene: RasterScene) -> str:
    """Return "pixel" for positions as rsft writes them without a georeference.

    Raises:
        RequestError: the scene has a georeference, or the file no fields row and col.
    """
    is_written = {"row", "col"} <= set(positions.table.columns)
    if scene.georeference or not is_written:
        raise RequestError(
            "the positions have no coordinate system",
            positions.path,
            "name it: --crs EPSG:4326, or --crs pixel",
        )
    return PIXEL


def _turn_rows(positions: Annotations, crs: str) -> Annotations:
    """Return positions with rows that count downwards, if they are in pixels.

    QGIS shows an image without a georeference at column and -row. So layers that were
    drawn on it, and those that rsft writes for it, have negative rows.
    """
    if crs != PIXEL:
        return positions
    table = positions.table
    if not table.geometry.bounds["maxy"].median() < 0:  # NaN without positions
        return positions
    shapes = shapely.transform(table.geometry.to_numpy(), lambda xy: xy * (1, -1))
    note = f"{positions.path.name}: y is negative, and was read as -row"
    return positions._replace(
        table=table.set_geometry(shapes), notes=[*positions.notes, note]
    )


def _add_locations(
    result: SceneLocations,
    positions: Annotations,
    scene: RasterScene,
    to_pixels: _ToPixels,
) -> list[shapely.Geometry]:
    """Add the usable positions and the rejected ones, and return the usable shapes."""
    usable = []
    table = positions.table
    columns = [table[name] for name in (table.geometry.name, SCORE, FAULT)]
    for number, shape, score, fault in zip(table.index.tolist(), *columns, strict=True):
        fault = fault or _describe_shape(shape)
        corners = np.empty((0, 2))
        if not fault:
            usable.append(shape)
            corners = to_pixels(shapely.get_coordinates(shape))
            fault = _describe_corners(corners)
        if fault:
            result.rejected.append((str(result.file), number, fault))
            continue
        row, col = corners[0].tolist()
        location = Location(
            row,
            col,
            None,
            f"{scene.name}_{number:06d}",
            number,
            None if np.isnan(score) else float(score),
        )
        if len(corners) > 1:
            location = _with_box(location, corners, positions.are_boxes)
        result.locations.append(location)
    return usable


def _describe_shape(shape: Any) -> str:
    """Return why a shape is no position; "" if it is one."""
    if shape is None or shape.is_empty:
        return "no position"
    if shape.geom_type == "Point" and shape.x == 0 == shape.y:
        return "0, 0 stands for a missing position"
    if shape.geom_type in _SHAPES:
        return ""
    return f"{shape.geom_type} geometry, but only points and polygons can be used"


def _describe_corners(corners: Floats) -> str:
    """Return why corners (K, 2) in pixels cannot be used; "" if they can."""
    if not (np.abs(corners) < _MAX_COORDINATE).all():  # or not finite
        return "the position cannot be transformed to pixels of the scene"
    if len(corners) > 1 and np.ptp(corners, axis=0).min() < NUDGE:
        return "the box has no area"
    return ""


def _with_box(location: Location, corners: Floats, is_image_box: bool) -> Location:
    """Return a location with the smallest rectangle around corners (K, 2).

    The rectangle may be rotated. The center is that of the rectangle, or of the corners
    if they are a box in an image.
    """
    rectangle = shapely.minimum_rotated_rectangle(shapely.MultiPoint(corners))
    low = corners.min(axis=0)
    high = corners.max(axis=0)
    if rectangle.geom_type != "Polygon":  # all points lie on a line
        rectangle = shapely.box(*low, *high)
    ends = np.asarray(rectangle.exterior.coords)[:4]
    row, col = ((low + high) / 2 if is_image_box else ends.mean(axis=0)).tolist()
    extent = (*low.tolist(), *high.tolist())
    return location._replace(
        row=row, col=col, box=tuple(ends.ravel().tolist()), extent=extent
    )


def _leave_out_others(
    result: SceneLocations, inside: list[Location], scene: RasterScene
) -> None:
    """Leave out the positions outside of a scene, and note their number."""
    total = len(result.locations)
    result.outside = [
        location.source_row
        for location in result.locations
        if not location.is_inside(scene)
    ]
    if not result.outside:
        return
    note = (
        f"positions outside of {scene.path.name}: {len(result.outside):,} of {total:,}"
    )
    if not inside:
        rows, cols = np.array([(x.row, x.col) for x in result.locations]).T
        scene_crs = scene.georeference.description if scene.georeference else PIXEL
        note += (
            f"; check the coordinate system of their file ({result.crs}): they lie at"
            f" row {rows.min():.6g} to {rows.max():.6g}, col {cols.min():.6g} to"
            f" {cols.max():.6g} of {scene.height:,} x {scene.width:,} pixels"
            f" ({scene_crs})"
        )
    result.outside_note = note
    result.notes.append(note)
    result.locations = inside


def _find_exchange(
    result: SceneLocations,
    shapes: list[shapely.Geometry],
    inside: int,
    scene: RasterScene,
    to_pixels: _ToPixels,
) -> list[str]:
    """Return a note if positions lie in the scene with exchanged coordinates only.

    Args:
        result: the positions.
        shapes: the positions as the file gives them.
        inside: number of positions in the scene.
        scene: the scene.
        to_pixels: from x and y to row and column.

    Raises:
        RequestError: most positions do; or some of the pixels lie outside of the scene,
            and all lie in it if they are exchanged.
    """
    outside = len(shapes) - inside
    if not outside or (inside and not _is_pixel_contradiction(result, outside)):
        return []
    # a polygon may have a corner that is no number, and so no centroid
    corners = shapely.bounds(shapes).reshape(-1, 2, 2)
    pixels = to_pixels(corners.mean(axis=1)[:, ::-1])
    with np.errstate(invalid="ignore"):
        is_inside = (pixels >= 0) & (pixels < scene.size)
    count = int(is_inside.all(axis=1).sum())
    if not count or (inside and count < len(shapes)):
        return []
    names = "x and y"
    if result.crs == PIXEL:
        names = "row and col"
    elif CRS.from_user_input(result.crs).is_geographic:
        names = "lon and lat"
    where = (
        f"{count:,} of {len(shapes):,} positions lie in {scene.path.name} if {names}"
        " are exchanged"
    )
    if 2 * count > len(shapes):
        raise RequestError(
            f"{names} are exchanged: {outside:,} positions lie outside of the scene,"
            f" but {where}",
            result.file,
            f"exchange {names} in the file",
        )
    return [f"{where}, and none as they are"]


def _is_pixel_contradiction(result: SceneLocations, outside: int) -> bool:
    """Return whether a number of positions outside is too large for wrong rows.

    Positions on a map may be those of several scenes.
    """
    is_common = outside >= 2 and 10 * outside > len(result.locations)
    return result.crs == PIXEL and is_common


def _pixel_transform(path: Path, scene: RasterScene, crs: str) -> _ToPixels:
    if crs == PIXEL:
        return lambda xy: xy[:, ::-1]
    if crs == FRACTION:
        return lambda xy: xy[:, ::-1] * scene.size
    try:
        to_lonlat = open_lonlat(crs)
    except ProjError as error:  # of the code, or of its operation
        raise RequestError(
            f"the coordinate system {crs[:200]} cannot be used",
            f"{path} --crs",
            "give a code such as EPSG:32633",
        ) from error
    georeference = scene.georeference
    if not georeference:
        raise RequestError(
            f"the positions have a coordinate system, but {scene.path.name} has no"
            " georeference",
            path,
            "give positions in pixels: columns row and col, or --crs pixel",
        )
    return lambda xy: georeference.lonlat_to_pixels(
        *to_lonlat.transform(xy[:, 0], xy[:, 1])
    )
