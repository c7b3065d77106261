"""Where on Earth a chip lies."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import rasterio
from rasterio._err import CPLE_BaseError  # what GDAL's coordinate operations raise; rasterio.errors has no name for it
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.transform import xy
from rasterio.warp import transform_geom
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry


def footprint(path: Path) -> BaseGeometry | None:
    """The outline of an image in longitude and latitude (EPSG:4326), cut at the antimeridian where it crosses it.

    None where the file has no coordinate system and transform, or one that does not lead to longitude and latitude.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            outline = _outline(path)
        except (RasterioError, CPLE_BaseError, UnicodeEncodeError):  # GDAL opens no name that is not UTF-8
            return None
    west, south, east, north = outline.bounds if outline else (math.nan,) * 4
    return outline if -180 <= west < east <= 180 and -90 <= south < north <= 90 else None


def _outline(path: Path) -> BaseGeometry | None:
    with rasterio.open(path) as file:
        if file.crs is None or file.transform.is_identity:
            return None
        rows, columns = [0, file.height, file.height, 0, 0], [0, 0, file.width, file.width, 0]
        x, y = xy(file.transform, rows, columns, offset="ul")
        corners = list(zip(x.tolist(), y.tolist(), strict=True))
        return shape(transform_geom(file.crs, "EPSG:4326", {"type": "Polygon", "coordinates": [corners]}))
