"""Save chips that were cut from scenes, as GeoTIFF."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.transform import from_gcps

from rsft.inference.scenes.georeference import Georeference, rectangle_corners
from rsft.inference.scenes.raster import PixelWindow
from rsft.types import Pixels
from rsft.utils.atomic_files import write_bytes

SCENE_TAG = "RSFT_SCENE"
"""Tag of a chip with the name of its scene, so that chips of one scene stay in one split."""


def write_chip_geotiff(
    path: Path,
    pixels: Pixels,
    bands: tuple[str, ...],
    unit: str | None,
    georeference: Georeference | None,
    window: PixelWindow,
    scene: str = "",
) -> None:
    """Write a chip with the names of its bands, its unit, its scene and its georeference. NaN means no data.

    The geotransform is fitted to the corners of the chip, in the coordinate system of the scene. If the scene has
    ground control points, the coordinates are in meters around their center.

    Args:
        path: path of the GeoTIFF.
        pixels: (H, W, B).
        bands: names of the bands.
        unit: unit of the pixels; None if it is unknown.
        georeference: georeference of the scene; None if it has none.
        window: the window of the scene from which the chip was cut.
        scene: name of the scene, which becomes the tag RSFT_SCENE; "" writes no tag.
    """
    height, width, count = pixels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": str(pixels.dtype)}
    if np.issubdtype(pixels.dtype, np.inexact):
        profile["nodata"] = np.nan
    if georeference is not None:
        corners = rectangle_corners(0, 0, height, width)
        coordinates = georeference.pixels_to_crs(rectangle_corners(*window))
        points = [
            GroundControlPoint(row=row, col=col, x=x, y=y)
            for (row, col), (x, y) in zip(corners, coordinates, strict=True)
        ]
        profile |= {"crs": georeference.crs.to_wkt(), "transform": from_gcps(points)}
    with warnings.catch_warnings(), MemoryFile() as memory:  # GDAL says nothing if the disk is full when a file closes
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(compress="deflate", **profile) as file:
            file.write(pixels.transpose(2, 0, 1))
            file.units = (unit or "",) * count
            if scene:
                file.update_tags(**{SCENE_TAG: scene})
            for index, name in enumerate(bands[:count], 1):
                file.set_band_description(index, name)
        write_bytes(path, memory.read())
