"""Masks of land, where no ships are detected: polygons, or large bright regions."""

from __future__ import annotations

import importlib
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from rasterio.features import rasterize
from rasterio.transform import Affine
from scipy import ndimage

from rsft.data.annotations.base import FRACTION, PIXEL, read_annotations
from rsft.data.imagery.vectors import READ_ERRORS
from rsft.errors import RequestError
from rsft.scenes.cfar import CELL
from rsft.scenes.georeference import WORLD, rectangle_corners
from rsft.scenes.query import LAND_KEYWORDS, LandSource
from rsft.scenes.raster import PixelWindow, RasterScene
from rsft.types import LONLAT, Floats, Mask

_MIN_CONTRAST_DB = 3.0  # between land and water; a smaller contrast may be wind
_MARGIN_DEGREES = 0.1  # polygons of land are used up to this distance from the scene
_PACKAGE = "roaring_landmask"
_SHORE_METERS = 100.0  # the shorelines are simplified to about this accuracy


class PolygonLandMask:
    """A land mask from polygons.

    Args:
        polygons: array of geometries in degrees.
        scene: the scene, with a georeference; only polygons near it are kept.
        description: where the polygons come from.
        margin_m: land is enlarged by this distance, in meters.
    """

    def __init__(
        self, polygons: Any, scene: RasterScene, description: str, margin_m: float = 0.0
    ) -> None:
        self.description = description
        georeference = scene.georeference
        spacing = scene.spacing
        assert georeference and spacing
        edges = rectangle_corners(0, 0, scene.height, scene.width)
        # None around a pole; two parts across the date line
        outline = georeference.outline_polygons(edges[None])[0] or WORLD
        pixels = margin_m / max(spacing)
        self.shapes: list[Any] = []
        for part in shapely.get_parts(outline):
            surroundings = part.buffer(_MARGIN_DEGREES).bounds
            for shape in shapely.clip_by_rect(polygons, *surroundings):
                if shape is None or not shape.area:
                    continue
                shape = shapely.transform(
                    shape, lambda xy: georeference.lonlat_to_pixels(*xy.T)[:, ::-1]
                )
                if pixels:
                    shape = shapely.make_valid(shape).buffer(pixels)
                self.shapes.append(shape)

    def __call__(self, window: PixelWindow) -> Mask:
        """Return which pixels of a window of the scene are land (H, W)."""
        if not self.shapes:
            return np.zeros(window.size, bool)
        origin = Affine.translation(window.left, window.top)
        land = rasterize(
            self.shapes, window.size, transform=origin, all_touched=True, dtype="uint8"
        )
        return np.asarray(land, bool)


def open_land_polygons(
    source: LandSource, scene: RasterScene
) -> PolygonLandMask | None:
    """Open the polygons of land for a scene.

    Args:
        source: a file, or "auto" for the shorelines of roaring-landmask.
        scene: the scene.

    Returns:
        The mask; None for "brightness" and "none", and for "auto" without the package
        or without a georeference.

    Raises:
        RequestError: the file cannot be read, or the scene or the file has no
            coordinate system.
    """
    if isinstance(source, Path):
        if not scene.georeference:
            raise RequestError(
                "the scene has no georeference, so polygons of land cannot be used",
                source,
                "leave out --land",
            )
        return PolygonLandMask(_read_polygons(source), scene, str(source))
    if source != "auto" or not scene.georeference or find_spec(_PACKAGE) is None:
        return None
    description = (
        f"shorelines of OpenStreetMap (roaring-landmask {version(_PACKAGE)}) and"
        f" {_SHORE_METERS:g} m of sea"
    )
    return PolygonLandMask([_read_shorelines()], scene, description, _SHORE_METERS)


def _read_polygons(path: Path) -> Any:
    """Return the polygons of a file in degrees."""
    hint = f"give .gpkg, .geojson or another layer, or {', '.join(LAND_KEYWORDS)}"
    land = read_annotations(path)
    if land.crs in (None, PIXEL, FRACTION):
        raise RequestError(
            "the polygons have no coordinate system", path, "export them with one"
        )
    try:
        shapes = land.table.geometry.set_crs(land.crs).to_crs(LONLAT)
        return shapely.make_valid(shapes.to_numpy())
    except READ_ERRORS as error:
        raise RequestError(
            f"the polygons cannot be read: {error}", path, hint
        ) from error


@lru_cache(maxsize=1)
def _read_shorelines() -> Any:
    """Return all land of the world.

    Reading it takes several seconds, so it is kept (100 MB) for the next scene.
    """
    package = importlib.import_module(_PACKAGE)
    return shapely.from_wkb(bytes(package.Shapes.wkb(package.LandmaskProvider.Osm)))


class BrightLandMask:
    """A land mask from brightness.

    The large bright regions may also be ice or wind, so polygons of land are better.

    Args:
        means: mean intensity of the cells of the scene (R, C), NaN without data.
        side: side of a square with the area of the smallest land, in pixels; an eighth
            of it around land is land, too.
    """

    description = (
        "brightness, which may be ice or wind; polygons are better: --land FILE, or pip"
        " install 'rsft[land]'"
    )

    def __init__(self, means: Floats, side: int) -> None:
        self.mask: Mask = np.zeros(means.shape, bool)
        has_data = means > 0
        if has_data.sum() < 2:
            return
        level = 10 * np.log10(np.where(has_data, means, np.nan))
        bright = has_data & (level > _otsu_threshold(level[has_data]))
        if not bright.any():
            return
        water = level[has_data & ~bright]
        if np.nanmean(level[bright]) - np.nanmean(water) <= _MIN_CONTRAST_DB:
            return
        labels = np.asarray(ndimage.label(bright, np.ones((3, 3)))[0])
        is_large = np.bincount(labels.ravel()) >= (side / CELL) ** 2
        is_large[0] = False
        filled = ndimage.binary_fill_holes(is_large[labels])
        shore = max(1, round(side / 8 / CELL))
        self.mask = ndimage.binary_dilation(filled, iterations=shore)

    def __call__(self, window: PixelWindow) -> Mask:
        """Return which pixels of a window of the scene are land (H, W)."""
        height, width = self.mask.shape
        rows = (np.arange(window.top, window.bottom) // CELL).clip(0, height - 1)
        cols = (np.arange(window.left, window.right) // CELL).clip(0, width - 1)
        return np.asarray(self.mask[rows][:, cols])


def _otsu_threshold(values: Floats) -> float:
    """Return the threshold that separates two groups of values (Otsu 1979).

    It is one of 256 steps of their range.
    """
    low, high = np.percentile(values, [0.5, 99.5])
    if not high > low:
        return float(high)
    scaled = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    level = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    return float(low + level / 255 * (high - low))
