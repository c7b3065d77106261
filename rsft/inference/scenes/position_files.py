"""Read positions of objects from vector layers, CSV tables and files of detections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from rsft.errors import RequestError
from rsft.inference.scenes.detection_formats import read_coco_boxes, read_dota_or_yolo
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.scenes.locations import Location, SceneLocations, filter_inside_scene, is_inside, min_area_box
from rsft.inference.scenes.position_csv import read_csv_positions
from rsft.inference.scenes.position_layers import read_layer_positions
from rsft.inference.scenes.position_table import PIXEL_CRS, PositionTable
from rsft.inference.scenes.raster import RasterScene
from rsft.types import Floats
from rsft.utils.untrusted.documents import parse_json

_PIXEL_HINT = "give positions in pixels: columns row and col, or --at-crs pixel"


def read_positions(path: Path, scene: RasterScene, crs: str | None = None, layer: str | None = None) -> SceneLocations:
    """Read the positions that lie in a scene.

    Args:
        path: a vector layer (.gpkg, .geojson, .fgb, .shp, .kml) of points or polygons; a .csv with lon and lat, row
            and col, x and y, or xmin, ymin, xmax and ymax; a .txt with DOTA or YOLO rows; a .json with COCO; or a
            folder of .txt files with the names of the scenes.
        scene: the scene.
        crs: coordinate system of the positions, if their file does not name one: EPSG:32633, or "pixel".
        layer: name of the layer, if the file has several layers.

    Returns:
        The locations in the scene with their attributes, and the rows that cannot be used.

    Raises:
        RequestError: the file does not exist, is empty or has an unknown format, or its coordinate system is missing or
            unusable, or its coordinates are exchanged.
        DataError: a COCO file does not name the scene.
    """
    if path.is_dir():
        path = path / f"{scene.name}.txt"
    if not path.is_file():
        raise RequestError(f"no file of positions for {scene.path.name}", path, "check the path and the file name")
    suffix = path.suffix.lower()
    if suffix != ".txt" and path.stat().st_size == 0:  # a text file without rows says that the scene has no objects
        raise RequestError("the file of positions is empty: 0 bytes", path, "export the positions again")
    is_coco = suffix == ".json" and not _is_geojson(path)
    if layer is not None and (is_coco or suffix in (".txt", ".csv")):
        raise RequestError(f"{path.name} has no layers", "--layer", "leave out --layer")
    if suffix == ".txt":
        locations = read_dota_or_yolo(path, scene)
    elif is_coco:
        locations = read_coco_boxes(path, scene)
    else:
        table = read_csv_positions(path) if suffix == ".csv" else read_layer_positions(path, layer)
        if table.crs is None and crs is None:
            hint = "name it: --at-crs EPSG:4326, or --at-crs pixel"
            raise RequestError("the positions have no coordinate system", path, hint)
        locations = _to_pixels(path, table._replace(crs=table.crs or crs), scene)
    return filter_inside_scene(locations, scene)


def _is_geojson(path: Path) -> bool:
    try:
        content = parse_json(path.read_bytes())
    except ValueError as error:
        raise RequestError(f"not a JSON file: {error}", path, "give GeoJSON or COCO") from error
    return isinstance(content, dict) and "type" in content


def _to_pixels(path: Path, table: PositionTable, scene: RasterScene) -> SceneLocations:
    to_pixels = _pixel_transform(path, scene, str(table.crs))
    locations = SceneLocations(notes=list(table.notes), attributes=table.attributes)
    for number, shape in zip(map(int, table.attributes.index), table.shapes, strict=True):
        reason = _why_unusable(shape)
        corners = np.empty((0, 2)) if reason else to_pixels(shapely.get_coordinates(shape))
        if not reason and not np.isfinite(corners).all():
            reason = "the position cannot be transformed to pixels of the scene"
        if reason:
            locations.rejected.append((str(path), number, reason))
            continue
        box = min_area_box(corners) if len(corners) > 1 else None
        row, col = corners[0] if box is None else np.reshape(box, (4, 2)).mean(axis=0)
        name = f"{scene.name}_{number:06d}"
        locations.locations.append(Location(float(row), float(col), box, name, number))
    locations.are_boxes = bool(locations.locations) and all(location.box for location in locations.locations)
    if not any(is_inside(location, scene) for location in locations.locations):
        locations.notes += _find_exchange(path, table, scene, to_pixels)
    return locations


def _find_exchange(
    path: Path, table: PositionTable, scene: RasterScene, to_pixels: Callable[[Floats], Floats]
) -> list[str]:
    """Return a note if some positions lie in the scene once their two coordinates are exchanged.

    Raises:
        RequestError: most positions do.
    """
    points = [shape.centroid for shape in table.shapes if shape is not None and not _why_unusable(shape)]
    if not points:
        return []
    pixels = to_pixels(shapely.get_coordinates(points)[:, ::-1])
    with np.errstate(invalid="ignore"):
        count = int(((pixels >= 0) & (pixels < (scene.height, scene.width))).all(axis=1).sum())
    if not count:
        return []
    names = _coordinate_names(str(table.crs))
    where = f"{count:,} of {len(points):,} positions lie in {scene.path.name} if {names} are exchanged"
    if 2 * count > len(points):
        message = f"{names} are exchanged: no position lies in the scene, but {where}"
        raise RequestError(message, path, f"exchange {names} in the file")
    return [f"{where}, and none as they are"]


def _coordinate_names(crs: str) -> str:
    if crs == PIXEL_CRS:
        return "row and col"
    return "lon and lat" if CRS.from_user_input(crs).is_geographic else "x and y"


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
