"""Find the land in a scene from shorelines, from a file of polygons, or from brightness."""

import importlib
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from scipy import ndimage

from rsft.data.annotations.base import FRACTION, PIXEL, read_annotations
from rsft.data.imagery.vectors import READ_ERRORS
from rsft.errors import RequestError
from rsft.inference.options import LAND_KEYWORDS, LandSource
from rsft.inference.scenes.georeference import LONLAT, rectangle_corners
from rsft.inference.scenes.raster import PixelWindow, RasterScene
from rsft.types import Floats

Mask = NDArray[np.bool_]

_MIN_CONTRAST_DB = 3.0  # between land and water; a smaller contrast may be wind
_MARGIN_DEGREES = 0.1  # polygons are used up to this distance from the scene

_PACKAGE = "roaring_landmask"
_SHORE_METERS = 100.0  # the shorelines are simplified to about this accuracy


class LandMask(Protocol):
    """A function that returns which pixels of a window are land.

    Attributes:
        description: where the mask comes from, for notes.
    """

    description: str

    def __call__(self, window: PixelWindow) -> Mask:
        """Return which pixels of a window of the scene are land (H, W)."""


class PolygonLandMask:
    """A land mask from polygons.

    Args:
        polygons: array of geometries in degrees.
        scene: the scene, with a georeference; only polygons near it are kept.
        description: where the polygons come from.
        margin_m: land is enlarged by this distance, in meters.
    """

    def __init__(self, polygons: Any, scene: RasterScene, description: str, margin_m: float = 0.0) -> None:
        self.description = description
        georeference, spacing = scene.georeference, scene.spacing
        assert georeference is not None and spacing is not None
        clipped = [shape for rectangle in _bounds(scene) for shape in shapely.clip_by_rect(polygons, *rectangle)]
        nearby = [shape for shape in clipped if shape is not None and not shape.is_empty and shape.area]
        shapes = [
            shapely.transform(shape, lambda xy: georeference.lonlat_to_pixels(*xy.T)[:, ::-1]) for shape in nearby
        ]
        pixels = margin_m / max(spacing)
        self.shapes = [shapely.make_valid(shape).buffer(pixels) for shape in shapes] if pixels else shapes

    def __call__(self, window: PixelWindow) -> Mask:
        size = (window.bottom - window.top, window.right - window.left)
        if not self.shapes:
            return np.zeros(size, bool)
        origin = Affine.translation(window.left, window.top)
        return np.asarray(rasterize(self.shapes, size, transform=origin, all_touched=True, dtype="uint8"), bool)


def open_land_polygons(source: LandSource, scene: RasterScene) -> PolygonLandMask | None:
    """Open the polygons of land for a scene.

    Args:
        source: a file, or "auto" for the shorelines of roaring-landmask.
        scene: the scene.

    Returns:
        The mask; None for "brightness" and "none", and for "auto" without the package or without a georeference.

    Raises:
        RequestError: the file cannot be read, or the scene or the file has no coordinate system.
    """
    if isinstance(source, Path):
        return PolygonLandMask(_read_polygons(source, scene), scene, str(source))
    if source != "auto" or scene.georeference is None or find_spec(_PACKAGE) is None:
        return None
    description = f"shorelines of OpenStreetMap (roaring-landmask {version(_PACKAGE)}) and {_SHORE_METERS:g} m of sea"
    return PolygonLandMask([_read_shorelines()], scene, description, _SHORE_METERS)


@lru_cache(maxsize=1)
def _read_shorelines() -> Any:
    """Return all land of the world. Reading it takes several seconds, so it is kept (100 MB) for the next scene."""
    package = importlib.import_module(_PACKAGE)
    return shapely.from_wkb(bytes(package.Shapes.wkb(package.LandmaskProvider.Osm)))


def _read_polygons(path: Path, scene: RasterScene) -> Any:
    """Return the polygons of a file in degrees."""
    if scene.georeference is None:
        message = "the scene has no georeference, so polygons of land cannot be used"
        raise RequestError(message, path, "leave out --land")
    hint = f"give .gpkg, .geojson or another layer, or {', '.join(LAND_KEYWORDS)}"
    try:
        land = read_annotations(path)
    except RequestError as error:
        raise RequestError(error.message, path, hint) from error
    if land.crs in (None, PIXEL, FRACTION):
        raise RequestError("the polygons have no coordinate system", path, "export them with one")
    try:
        return shapely.make_valid(land.table.geometry.set_crs(land.crs).to_crs(LONLAT).to_numpy())
    except READ_ERRORS as error:
        raise RequestError(f"the polygons cannot be read: {error}", path, hint) from error


def _bounds(scene: RasterScene) -> list[tuple[float, float, float, float]]:
    """Return west, south, east and north of the surroundings of a scene; two rectangles across the date line."""
    assert scene.georeference is not None
    outline = scene.georeference.pixels_to_lonlat(*rectangle_corners(0, 0, scene.height, scene.width).T)
    (west, south), (east, north) = outline.min(0) - _MARGIN_DEGREES, outline.max(0) + _MARGIN_DEGREES
    if east - west < 180:
        return [(west, south, east, north)]
    lon = outline[:, 0]
    east_of_line, west_of_line = lon[lon < 0].max() + _MARGIN_DEGREES, lon[lon > 0].min() - _MARGIN_DEGREES
    return [(-180, south, east_of_line, north), (west_of_line, south, 180, north)]


class BrightLandMask:
    """A land mask from brightness. The large bright regions may also be ice or wind, so polygons of land are better.

    Args:
        means: mean intensity of the cells of the scene (R, C), NaN without data.
        cell: side of a cell in pixels.
        side: side of a chip in pixels. Land has at least the area of 4 x 4 chips.
    """

    description = "brightness, which may be ice or wind; polygons are better: --land FILE, or pip install 'rsft[land]'"

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
