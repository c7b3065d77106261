"""Read positions of objects from files, and find them in a scene."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from rsft.data.annotations.base import FAULT, FRACTION, IMAGE, PIXEL, SCORE, Annotations, read_annotations
from rsft.errors import DataError, RequestError
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.scenes.locations import Location, SceneLocations, filter_inside_scene, is_inside, min_area_box
from rsft.inference.scenes.raster import RasterScene
from rsft.types import Floats

_ToPixels = Callable[[Floats], Floats]
"""A function from x and y (K, 2) to row and column (K, 2)."""


def read_positions(path: Path, scene: RasterScene, crs: str | None = None, layer: str | None = None) -> SceneLocations:
    """Read the positions that lie in a scene.

    Args:
        path: a file in one of the formats of `rsft.data.annotations`, or a folder of .txt files with the names of the
            scenes.
        scene: the scene. Of a file with several images, that with the name of the scene is read.
        crs: coordinate system of the positions, if their file does not name one: EPSG:32633, or "pixel".
        layer: name of the layer, if the file has several layers.

    Returns:
        The locations in the scene with their attributes, and the rows that cannot be used.

    Raises:
        RequestError: the file does not exist, is empty or has an unknown format, or its coordinate system is missing or
            unusable, or its coordinates are exchanged.
        DataError: the file has images, but none with the name of the scene.
    """
    if path.is_dir():
        path = path / f"{scene.name}.txt"
    if not path.is_file():
        raise RequestError(f"no file of positions for {scene.path.name}", path, "check the path and the file name")
    positions = read_annotations(path, layer)
    if positions.images:
        image = next((name for name in positions.images if Path(name).name == scene.path.name), None)
        if image is None:
            message = f"none of its {len(positions.images):,} images has the name {scene.path.name}"
            raise DataError(message, path, "rename the scene or the image")
        positions = positions._replace(table=positions.table[positions.table[IMAGE] == image])
    crs = positions.crs or crs
    if crs is None:
        hint = "name it: --at-crs EPSG:4326, or --at-crs pixel"
        raise RequestError("the positions have no coordinate system", path, hint)
    return filter_inside_scene(_find_locations(path, positions, scene, crs), scene)


def _find_locations(path: Path, positions: Annotations, scene: RasterScene, crs: str) -> SceneLocations:
    to_pixels = _pixel_transform(path, scene, crs)
    table = positions.table
    attributes = pd.DataFrame(table.drop(columns=[table.geometry.name, SCORE, IMAGE, FAULT]))
    result = SceneLocations(notes=list(positions.notes), attributes=attributes, are_boxes=positions.are_boxes)
    faults = [fault or _find_fault(shape) for fault, shape in zip(table[FAULT], table.geometry, strict=True)]
    for number, shape, score, fault in zip(table.index.tolist(), table.geometry, table[SCORE], faults, strict=True):
        corners = np.empty((0, 2)) if fault else to_pixels(shapely.get_coordinates(shape))
        if not fault and not np.isfinite(corners).all():
            fault = "the position cannot be transformed to pixels of the scene"
        if fault:
            result.rejected.append((str(path), number, fault))
            continue
        box = min_area_box(corners) if len(corners) > 1 else None
        row, col = corners[0]
        if box is not None and positions.are_boxes:
            row, col = (corners.min(axis=0) + corners.max(axis=0)) / 2
        elif box is not None:
            row, col = np.reshape(box, (4, 2)).mean(axis=0)
        name = f"{scene.name}_{number:06d}"
        score = None if np.isnan(score) else float(score)
        result.locations.append(Location(float(row), float(col), box, name, number, score))
    if not positions.are_boxes:
        result.are_boxes = bool(result.locations) and all(location.box for location in result.locations)
        if not any(is_inside(location, scene) for location in result.locations):
            usable = [shape for shape, fault in zip(table.geometry, faults, strict=True) if not fault]
            result.notes += _find_exchange(path, usable, scene, crs, to_pixels)
    return result


def _find_exchange(
    path: Path, shapes: list[shapely.Geometry], scene: RasterScene, crs: str, to_pixels: _ToPixels
) -> list[str]:
    """Return a note if some positions lie in the scene once their two coordinates are exchanged.

    Raises:
        RequestError: most positions do.
    """
    if not shapes:
        return []
    pixels = to_pixels(shapely.get_coordinates([shape.centroid for shape in shapes])[:, ::-1])
    with np.errstate(invalid="ignore"):
        count = int(((pixels >= 0) & (pixels < (scene.height, scene.width))).all(axis=1).sum())
    if not count:
        return []
    names = "row and col" if crs == PIXEL else "x and y"
    if crs != PIXEL and CRS.from_user_input(crs).is_geographic:
        names = "lon and lat"
    where = f"{count:,} of {len(shapes):,} positions lie in {scene.path.name} if {names} are exchanged"
    if 2 * count > len(shapes):
        message = f"{names} are exchanged: no position lies in the scene, but {where}"
        raise RequestError(message, path, f"exchange {names} in the file")
    return [f"{where}, and none as they are"]


def _find_fault(shape: shapely.Geometry | None) -> str:
    if shape is None or shape.is_empty:
        return "no position"
    if shape.geom_type not in ("Point", "Polygon", "MultiPolygon"):
        return f"{shape.geom_type} geometry, but only points and polygons can be used"
    return ""


def _pixel_transform(path: Path, scene: RasterScene, crs: str) -> _ToPixels:
    if crs in (PIXEL, FRACTION):
        scale = (scene.height, scene.width) if crs == FRACTION else (1, 1)
        return lambda xy: xy[:, ::-1] * scale
    try:
        to_lonlat = Transformer.from_crs(CRS.from_user_input(crs), LONLAT, always_xy=True)
    except CRSError as error:
        raise RequestError(f"unknown coordinate system {crs}", "--at-crs", "give a code such as EPSG:32633") from error
    georeference = scene.georeference
    if georeference is None:
        message = f"the positions have a coordinate system, but {scene.path.name} has no georeference"
        raise RequestError(message, path, "give positions in pixels: columns row and col, or --at-crs pixel")
    return lambda xy: georeference.lonlat_to_pixels(*to_lonlat.transform(xy[:, 0], xy[:, 1]))
