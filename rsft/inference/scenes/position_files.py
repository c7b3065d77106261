"""Read positions of objects from vector layers, CSV tables and files of detections."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from rsft.errors import RequestError
from rsft.inference.scenes.detection_formats import read_coco_boxes, read_dota_or_yolo
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.scenes.locations import Location, SceneLocations, filter_inside_scene, min_area_box
from rsft.inference.scenes.raster import RasterScene
from rsft.types import Floats

PIXEL_CRS = "pixel"
"""The value of `--at-crs` for positions in pixels: x is the column, y the row, from the upper left corner."""

_PIXEL_HINT = "give positions in pixels: columns row and col, or --at-crs pixel"
_POINTS = {("lon", "lat"): LONLAT, ("longitude", "latitude"): LONLAT, ("col", "row"): PIXEL_CRS, ("x", "y"): None}
_BOXES = {("xmin", "ymin", "xmax", "ymax"): None, ("west", "south", "east", "north"): LONLAT}


def read_positions(path: Path, scene: RasterScene, crs: str | None = None) -> SceneLocations:
    """Read the positions that lie in a scene.

    Args:
        path: a vector layer (.gpkg, .geojson, any format of OGR) of points or polygons; a .csv with lon and lat, row
            and col, x and y, or xmin, ymin, xmax and ymax; a .txt with DOTA or YOLO rows; a .json with COCO; or a
            folder of .txt files with the names of the scenes.
        scene: the scene.
        crs: coordinate system of the positions, if their file does not name one: EPSG:32633, or "pixel".

    Returns:
        The locations in the scene, with the rows that cannot be used.

    Raises:
        RequestError: the file does not exist or has an unknown format, or its coordinate system is missing or unusable.
        DataError: a COCO file does not name the scene.
    """
    if path.is_dir():
        path = path / f"{scene.name}.txt"
    if not path.is_file():
        raise RequestError(f"no file of positions for {scene.path.name}", path, "check the path and the file name")
    suffix = path.suffix.lower()
    if suffix == ".txt":
        locations = read_dota_or_yolo(path, scene)
    elif suffix == ".json" and not _is_geojson(path):
        locations = read_coco_boxes(path, scene)
    else:
        shapes, file_crs = _read_csv(path) if suffix == ".csv" else _read_layer(path)
        if file_crs is None and crs is None:
            hint = "name it: --at-crs EPSG:4326, or --at-crs pixel"
            raise RequestError("the positions have no coordinate system", path, hint)
        locations = _to_pixels(path, shapes, scene, file_crs or str(crs))
    return filter_inside_scene(locations, scene)


def _is_geojson(path: Path) -> bool:
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise RequestError("not a JSON file", path, "give GeoJSON or COCO") from error
    return isinstance(content, dict) and "type" in content


def _read_layer(path: Path) -> tuple[pd.Series[Any], str | None]:
    """Return geometries, indexed by row number from 1, and their coordinate system."""
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) != 1:
            names = ", ".join(layers) or "none"
            raise RequestError(
                f"{len(layers)} layers with geometry: {names}", path, "export one layer to a separate file"
            )
        frame = geopandas.read_file(path, layer=layers[0])
    except pyogrio.errors.DataSourceError as error:
        hint = "give .gpkg, .geojson, .csv, DOTA or YOLO .txt, or COCO .json"
        raise RequestError("the file of positions cannot be read", path, hint) from error
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return frame.geometry, None if frame.crs is None else frame.crs.to_wkt()


def _read_csv(path: Path) -> tuple[pd.Series[Any], str | None]:
    """Return geometries, indexed by row number, and their coordinate system. The header is row 1."""
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise RequestError(
            f"the table cannot be read: {error}", path, "save it as CSV with commas, in UTF-8"
        ) from error
    table.columns = [str(name).strip().lower() for name in table.columns]
    for names, crs in (_BOXES | _POINTS).items():
        if set(names) <= set(table.columns):
            numbers = table[list(names)].apply(pd.to_numeric, errors="coerce").to_numpy()
            is_complete = np.isfinite(numbers).all(axis=1)
            values = numbers[is_complete].T
            shapes = np.full(len(table), None, object)
            shapes[is_complete] = shapely.points(*values) if len(names) == 2 else shapely.box(*values)
            return pd.Series(shapes, pd.RangeIndex(2, len(table) + 2)), crs
    choices = "; ".join(" and ".join(names) for names in (*_POINTS, *_BOXES))
    message = f"no columns of positions among {', '.join(table.columns)}"
    raise RequestError(message, path, f"name the columns {choices}")


def _to_pixels(path: Path, shapes: pd.Series[Any], scene: RasterScene, crs: str) -> SceneLocations:
    to_pixels = _pixel_transform(path, scene, crs)
    locations = SceneLocations()
    for number, shape in shapes.items():
        reason = _why_unusable(shape)
        corners = np.empty((0, 2)) if reason else to_pixels(shapely.get_coordinates(shape))
        if not reason and not np.isfinite(corners).all():
            reason = "the position cannot be transformed to pixels of the scene"
        if reason:
            locations.rejected.append((str(path), int(str(number)), reason))
            continue
        box = min_area_box(corners) if len(corners) > 1 else None
        row, col = corners[0] if box is None else np.reshape(box, (4, 2)).mean(axis=0)
        name = f"{scene.name}_{number:06d}"
        locations.locations.append(Location(float(row), float(col), box, name, int(str(number))))
    return locations


def _why_unusable(shape: Any) -> str:
    if shape is None or shape.is_empty:
        return "no position"
    if shape.geom_type not in ("Point", "Polygon", "MultiPolygon"):
        return f"{shape.geom_type} geometry, but only points and polygons can be used"
    return ""


def _pixel_transform(path: Path, scene: RasterScene, crs: str) -> Callable[[Floats], Floats]:
    """Return a function from x and y (K, 2) to row and column (K, 2)."""
    if crs == PIXEL_CRS:
        return lambda xy: xy[:, ::-1]
    try:
        to_lonlat = Transformer.from_crs(CRS.from_user_input(crs), LONLAT, always_xy=True)
    except CRSError as error:
        raise RequestError(f"unknown coordinate system {crs}", "--at-crs", "give a code such as EPSG:32633") from error
    georeference = scene.georeference
    if georeference is None:
        message = f"the positions have a coordinate system, but {scene.path.name} has no georeference"
        raise RequestError(message, path, _PIXEL_HINT)
    return lambda xy: georeference.lonlat_to_pixels(*to_lonlat.transform(xy[:, 0], xy[:, 1]))
