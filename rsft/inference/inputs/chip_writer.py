"""Chips that were cut, kept as GeoTIFF."""

from __future__ import annotations

import warnings
from pathlib import Path

import rasterio
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_gcps

from rsft.inference.scenes.georeference import Georeference, rectangle
from rsft.inference.scenes.raster import Block
from rsft.types import Pixels
from rsft.utils.atomic_files import replacing


def keep_chip(path: Path, pixels: Pixels, bands: tuple[str, ...], place: Georeference | None, block: Block) -> None:
    """Write a chip (H, W, B), cut at `block`, with its bands' names and its place, where that is known.

    The place is the plane through the corners, in the coordinate system of the scene, or in metres around the middle of
    its ground control points.
    """
    height, width, count = pixels.shape
    facts = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": str(pixels.dtype)}
    if place is not None:
        points = [
            GroundControlPoint(row=row, col=col, x=x, y=y)
            for (row, col), (x, y) in zip(rectangle(0, 0, height, width), place.plane(rectangle(*block)), strict=True)
        ]
        facts |= {"crs": place.system.to_wkt(), "transform": from_gcps(points)}
    with warnings.catch_warnings(), replacing(path) as temporary:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(temporary, "w", compress="deflate", **facts) as file:
            file.write(pixels.transpose(2, 0, 1))
            for index, name in enumerate(bands[:count], 1):
                file.set_band_description(index, name)
