"""Where a scene is land: by a file of polygons, or by its brightness."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import geopandas
import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from scipy import ndimage

from rsft.errors import RequestError
from rsft.inference.scenes.georeference import LONLAT, rectangle
from rsft.inference.scenes.raster import Block, Scene

Mask = NDArray[np.bool_]

_CONTRAST_DB = 3.0  # between land and water; less is wind
_AROUND = 0.1  # degrees beyond the scene that polygons are looked at


class Land(Protocol):
    """Says of any window which pixels are land."""

    def __call__(self, block: Block) -> Mask:
        """(H, W)."""


class LandPolygons:
    """The polygons of a file."""

    def __init__(self, path: Path, scene: Scene) -> None:
        """Read those near the scene.

        Raises:
            RequestError: the file cannot be read, or scene or file has no georeference.
        """
        place = scene.place
        if place is None:
            raise RequestError("the scene has no georeference to lay polygons on", path, "leave out --land")
        try:
            frame = geopandas.read_file(path)
        except pyogrio.errors.DataSourceError as error:
            raise RequestError("the polygons cannot be read", path, "give .gpkg, .geojson or another layer") from error
        if frame.crs is None:
            raise RequestError("the polygons say no coordinate system", path, "export them with one")
        outline = place.lonlat(*rectangle(0, 0, scene.height, scene.width).T)
        (west, south), (east, north) = outline.min(0) - _AROUND, outline.max(0) + _AROUND
        near = shapely.clip_by_rect(
            shapely.make_valid(frame.to_crs(LONLAT).geometry.to_numpy()), west, south, east, north
        )
        near = [shape for shape in near if shape is not None and not shape.is_empty and shape.area]
        self.shapes = [shapely.transform(shape, lambda xy: place.pixels(*xy.T)[:, ::-1]) for shape in near]

    def __call__(self, block: Block) -> Mask:
        """(H, W)."""
        size = (block.bottom - block.top, block.right - block.left)
        if not self.shapes:
            return np.zeros(size, bool)
        moved = Affine.translation(block.left, block.top)
        return np.asarray(rasterize(self.shapes, size, transform=moved, all_touched=True, dtype="uint8"), bool)


class BrightLand:
    """Large bright parts of a scene: land, most of the time, and ice or wind at others. A makeshift for `--land`."""

    def __init__(self, means: NDArray[np.float64], cell: int, side: int) -> None:
        """Find them.

        Args:
            means: intensity of cells of the scene (R, C), NaN without data.
            cell: side of a cell in pixels.
            side: of a chip in pixels; what is smaller than four times that is no land.
        """
        self.cell = cell
        self.mask: Mask = np.zeros(means.shape, bool)
        known = means > 0
        if known.sum() < 2:
            return
        level = 10 * np.log10(np.where(known, means, np.nan))
        bright = known & (level > _otsu(level[known]))
        if bright.any() and np.nanmean(level[bright]) - np.nanmean(level[known & ~bright]) > _CONTRAST_DB:
            labels = np.asarray(ndimage.label(bright, np.ones((3, 3)))[0])
            large = np.bincount(labels.ravel()) >= (4 * side / cell) ** 2
            large[0] = False
            shore = max(1, round(side / 2 / cell))
            self.mask = ndimage.binary_dilation(ndimage.binary_fill_holes(large[labels]), iterations=shore)

    def __call__(self, block: Block) -> Mask:
        """(H, W)."""
        rows = np.arange(block.top, block.bottom).clip(0, None) // self.cell
        cols = np.arange(block.left, block.right).clip(0, None) // self.cell
        high, wide = self.mask.shape
        return np.asarray(self.mask[rows.clip(0, high - 1)][:, cols.clip(0, wide - 1)])


def _otsu(values: NDArray[np.float64]) -> float:
    """The value that parts two groups best (Otsu 1979), to a 255th of the range."""
    low, high = np.percentile(values, [0.5, 99.5])
    if not high > low:
        return float(high)
    scaled = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    level = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    return float(low + level / 255 * (high - low))
