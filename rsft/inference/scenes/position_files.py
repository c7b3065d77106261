"""Positions of objects in files: vector layers and CSV in any coordinate system, detections in pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from rsft.errors import RequestError
from rsft.inference.scenes.detection_formats import read_coco, read_text
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.scenes.locations import Place, Places, box_of, in_scene
from rsft.inference.scenes.raster import Scene

PIXEL = "pixel"
"""What `--at-crs` calls positions in pixels: x is the column, y the row, from the upper left corner."""

_PIXEL_FIX = "give positions in pixels: columns row and col, or --at-crs pixel"
_POINTS = {("lon", "lat"): LONLAT, ("longitude", "latitude"): LONLAT, ("col", "row"): PIXEL, ("x", "y"): None}
_BOXES = {("xmin", "ymin", "xmax", "ymax"): None, ("west", "south", "east", "north"): LONLAT}


def read_positions(path: Path, scene: Scene, crs: str | None = None) -> Places:
    """The positions of `path` that lie in `scene`.

    Args:
        path: a vector layer (.gpkg, .geojson, whatever OGR reads) of points or polygons; a .csv with lon and lat, row
            and col, x and y, or xmin, ymin, xmax and ymax; DOTA or YOLO rows in a .txt; COCO in a .json; or a folder of
            such .txt, one a scene, of the scene's name.
        crs: the coordinate system, where the file does not say it: EPSG:32633, or "pixel".

    Raises:
        RequestError: no such file, a format that is not known, a coordinate system that is missing or of no use.
        DataError: COCO that does not name the scene.
    """
    if path.is_dir():
        path = path / f"{scene.name}.txt"
    if not path.is_file():
        raise RequestError("there is no file of positions", path, f"it is looked for on behalf of {scene.path.name}")
    suffix = path.suffix.lower()
    if suffix == ".txt":
        found = read_text(path, scene)
    elif suffix == ".json" and not _is_geojson(path):
        found = read_coco(path, scene)
    else:
        table, named = _read_csv(path) if suffix == ".csv" else _read_layer(path)
        if named is None and crs is None:
            raise RequestError("the positions say no coordinate system", path, "name it: --at-crs EPSG:4326, or pixel")
        found = _to_pixels(path, table, scene, named or str(crs))
    return in_scene(found, scene)


def _is_geojson(path: Path) -> bool:
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise RequestError("the file is no JSON", path, "give GeoJSON or COCO") from error
    return isinstance(content, dict) and "type" in content


def _read_layer(path: Path) -> tuple[pd.Series[Any], str | None]:
    """Geometries by row number from 1, and their coordinate system."""
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) != 1:
            told = ", ".join(layers) or "none"
            raise RequestError(f"{len(layers)} layers with geometry: {told}", path, "export the wanted one to a file")
        frame = geopandas.read_file(path, layer=layers[0])
    except pyogrio.errors.DataSourceError as error:
        fix = "give .gpkg, .geojson, .csv, DOTA or YOLO .txt, or COCO .json"
        raise RequestError("the file of positions cannot be read", path, fix) from error
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return frame.geometry, None if frame.crs is None else frame.crs.to_wkt()


def _read_csv(path: Path) -> tuple[pd.Series[Any], str | None]:
    """The same; a row is counted as a spreadsheet does, where the header is the first."""
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise RequestError(
            f"the table cannot be read: {error}", path, "save it as CSV with commas, in UTF-8"
        ) from error
    table.columns = [str(name).strip().lower() for name in table.columns]
    for names, system in (_BOXES | _POINTS).items():
        if set(names) <= set(table.columns):
            numbers = table[list(names)].apply(pd.to_numeric, errors="coerce")
            good = np.isfinite(numbers.to_numpy()).all(axis=1)
            values = numbers.to_numpy()[good].T
            shapes = np.full(len(table), None, object)
            shapes[good] = shapely.points(*values) if len(names) == 2 else shapely.box(*values)
            return pd.Series(shapes, pd.RangeIndex(2, len(table) + 2)), system
    wanted = "; ".join(" and ".join(names) for names in (*_POINTS, *_BOXES))
    raise RequestError(f"no columns of positions among {', '.join(table.columns)}", path, f"call them {wanted}")


def _to_pixels(path: Path, shapes: pd.Series[Any], scene: Scene, system: str) -> Places:
    move = _mover(path, scene, system)
    found = Places()
    for number, shape in shapes.items():
        reason = _fault(shape)
        corners = np.empty((0, 2)) if reason else move(shapely.get_coordinates(shape))
        if not reason and not np.isfinite(corners).all():
            reason = "the position has no place in the scene's coordinates"
        if reason:
            found.rejected.append((str(path), int(str(number)), reason))
            continue
        box = box_of(corners) if len(corners) > 1 else None
        row, col = corners[0] if box is None else np.reshape(box, (4, 2)).mean(axis=0)
        found.places.append(Place(float(row), float(col), box, f"{scene.name}_{number:06d}", int(str(number))))
    return found


def _fault(shape: Any) -> str:
    if shape is None or shape.is_empty:
        return "no position"
    if shape.geom_type not in ("Point", "Polygon", "MultiPolygon"):
        return f"a {shape.geom_type}, where a point or a polygon is wanted"
    return ""


def _mover(path: Path, scene: Scene, system: str) -> Any:
    """From (K, 2) x, y to (K, 2) row, col."""
    if system == PIXEL:
        return lambda xy: xy[:, ::-1]
    try:
        to_lonlat = Transformer.from_crs(CRS.from_user_input(system), LONLAT, always_xy=True)
    except CRSError as error:
        raise RequestError(f"{system} is no coordinate system", "--at-crs", "name one as EPSG:32633") from error
    place = scene.place
    if place is None:
        raise RequestError(f"{scene.path.name} has no georeference, the positions have one", path, _PIXEL_FIX)

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return place.pixels(*to_lonlat.transform(xy[:, 0], xy[:, 1]))

    return move
