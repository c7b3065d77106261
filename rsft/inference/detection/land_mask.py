"""Find the land in a scene from a file of polygons or from brightness."""

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
from rsft.inference.scenes.georeference import LONLAT, rectangle_corners
from rsft.inference.scenes.raster import PixelWindow, RasterScene
from rsft.types import Floats

Mask = NDArray[np.bool_]

_MIN_CONTRAST_DB = 3.0  # between land and water; a smaller contrast may be wind
_MARGIN_DEGREES = 0.1  # polygons are used up to this distance from the scene


class LandMask(Protocol):
    """A function that returns which pixels of a window are land."""

    def __call__(self, window: PixelWindow) -> Mask:
        """Return True for land.

        Args:
            window: a window of the scene.

        Returns:
            The mask (H, W).
        """


class PolygonLandMask:
    """A land mask from the polygons of a file.

    Args:
        path: a vector layer.
        scene: the scene; only polygons near it are kept.

    Raises:
        RequestError: the file cannot be read, or the scene or the file has no coordinate system.
    """

    def __init__(self, path: Path, scene: RasterScene) -> None:
        georeference = scene.georeference
        if georeference is None:
            message = "the scene has no georeference, so polygons of land cannot be used"
            raise RequestError(message, path, "leave out --land")
        try:
            frame = geopandas.read_file(path)
        except pyogrio.errors.DataSourceError as error:
            raise RequestError("the polygons cannot be read", path, "give .gpkg, .geojson or another layer") from error
        if frame.crs is None:
            raise RequestError("the polygons have no coordinate system", path, "export them with one")
        outline = georeference.pixels_to_lonlat(*rectangle_corners(0, 0, scene.height, scene.width).T)
        (west, south), (east, north) = outline.min(0) - _MARGIN_DEGREES, outline.max(0) + _MARGIN_DEGREES
        polygons = shapely.make_valid(frame.to_crs(LONLAT).geometry.to_numpy())
        clipped = shapely.clip_by_rect(polygons, west, south, east, north)
        nearby = [shape for shape in clipped if shape is not None and not shape.is_empty and shape.area]
        self.shapes = [
            shapely.transform(shape, lambda xy: georeference.lonlat_to_pixels(*xy.T)[:, ::-1]) for shape in nearby
        ]

    def __call__(self, window: PixelWindow) -> Mask:
        """Return True for land, see `LandMask`.

        Args:
            window: a window of the scene.

        Returns:
            The mask (H, W).
        """
        size = (window.bottom - window.top, window.right - window.left)
        if not self.shapes:
            return np.zeros(size, bool)
        origin = Affine.translation(window.left, window.top)
        return np.asarray(rasterize(self.shapes, size, transform=origin, all_touched=True, dtype="uint8"), bool)


class BrightLandMask:
    """A land mask from brightness. The large bright regions may also be ice or wind, so polygons of land are better.

    Args:
        means: mean intensity of the cells of the scene (R, C), NaN without data.
        cell: side of a cell in pixels.
        side: side of a chip in pixels. Land has at least the area of 4 x 4 chips.
    """

    def __init__(self, means: Floats, cell: int, side: int) -> None:
        self.cell = cell
        self.mask: Mask = np.zeros(means.shape, bool)
        has_data = means > 0
        if has_data.sum() < 2:
            return
        level = 10 * np.log10(np.where(has_data, means, np.nan))
        bright = has_data & (level > _otsu_threshold(level[has_data]))
        if bright.any() and np.nanmean(level[bright]) - np.nanmean(level[has_data & ~bright]) > _MIN_CONTRAST_DB:
            labels = np.asarray(ndimage.label(bright, np.ones((3, 3)))[0])
            is_large = np.bincount(labels.ravel()) >= (4 * side / cell) ** 2
            is_large[0] = False
            shore = max(1, round(side / 2 / cell))
            self.mask = ndimage.binary_dilation(ndimage.binary_fill_holes(is_large[labels]), iterations=shore)

    def __call__(self, window: PixelWindow) -> Mask:
        """Return True for land, see `LandMask`.

        Args:
            window: a window of the scene.

        Returns:
            The mask (H, W).
        """
        rows = np.arange(window.top, window.bottom).clip(0, None) // self.cell
        cols = np.arange(window.left, window.right).clip(0, None) // self.cell
        height, width = self.mask.shape
        return np.asarray(self.mask[rows.clip(0, height - 1)][:, cols.clip(0, width - 1)])


def _otsu_threshold(values: Floats) -> float:
    """Return the threshold that separates two groups of values (Otsu 1979), in steps of 1/255 of their range."""
    low, high = np.percentile(values, [0.5, 99.5])
    if not high > low:
        return float(high)
    scaled = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    level = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    return float(low + level / 255 * (high - low))
