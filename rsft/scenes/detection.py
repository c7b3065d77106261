"""Detect bright objects on dark water, window by window.

This is a convenience, not a ship detector.

The scene is read twice. The first pass measures the water and finds land. The second
one finds objects by a cell-averaging constant false alarm rate (CA-CFAR): pixels that
are brighter than their surroundings. With L looks, the intensity of homogeneous water
is gamma distributed, and its ratio to the mean of N other pixels follows F(2L, 2LN)
(Oliver and Quegan 2004, section 10.3). For L = 1 the threshold is N (p^(-1/N) - 1).

The number of looks of a cell of 16 x 16 pixels is mean^2 / variance of its intensity.
Wind, waves and ice make water rougher than speckle alone, and lower this number. So it
is measured in every block of 256 x 256 pixels, as the median over the cells of the
block and of its eight neighbors. Ships are in few cells, so they do not change the
median.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from scipy import ndimage, stats

from rsft.data.annotations.base import FRACTION, PIXEL, read_annotations
from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.chip_spec import ChipSpec
from rsft.data.imagery.units import DIGITAL_UNITS, check_unit, convert_unit
from rsft.data.imagery.vectors import READ_ERRORS
from rsft.errors import DataError, RequestError
from rsft.scenes.georeference import rectangle_corners
from rsft.scenes.locations import (
    ChipWindow,
    Location,
    SceneLocations,
    check_scene_bands,
)
from rsft.scenes.options import Declaration
from rsft.scenes.query import LAND_KEYWORDS, CfarOptions, LandSource
from rsft.scenes.raster import PixelWindow, RasterScene, declare_unit
from rsft.scenes.reader import SceneReader
from rsft.types import LONLAT, Floats, Pixels, Progress

CELL = 16
"""Side in pixels of the cells in which mean and variance are measured."""

BLOCK = 256
"""Side in pixels of the blocks that have one number of looks each."""

_MIN_CELLS = (
    32  # a block with fewer usable cells takes the number of looks of the scene
)
_LOOKS_RANGE = (1.0, 100.0)
_MIN_VALID_FRACTION = 0.25  # smallest share of the surroundings that must be valid
_MIN_OBJECT_PIXELS = 3
_GAP_DIVISOR = 10  # pixels of an object may be apart by the chip's side divided by this
# longest object, as a multiple of the chip's side: a chip with most of a ship is
# classified
_MAX_SIDES = 1.5
_MIN_AREA_SHARE = (
    1 / 800
)  # smallest share of a chip's area that an object covers; chosen on 7 images of SSDD

_MIN_CONTRAST_DB = 3.0  # between land and water; a smaller contrast may be wind
_MARGIN_DEGREES = 0.1  # polygons of land are used up to this distance from the scene
_LARGEST_SHIP = 500.0  # meters
_SMALLEST_LAND = 1000.0  # meters, side of a square of its area
_PACKAGE = "roaring_landmask"
_SHORE_METERS = 100.0  # the shorelines are simplified to about this accuracy

_Mask = NDArray[np.bool_]
_Plane32 = NDArray[np.float32]


def detect_bright_objects(
    scene: RasterScene,
    options: CfarOptions,
    chip_window: ChipWindow,
    declaration: Declaration,
    contract: ChipSpec,
    progress: Progress | None,
    land_side: int | None = None,
) -> SceneLocations:
    """Detect objects that are brighter than the water around them and not longer than one and a half chips.

    The surroundings of a pixel lie between two squares around it, with sides of one and
    two chips, so that an object of the size of a chip does not reach the surroundings
    of its middle.

    Args:
        scene: the scene.
        options: false alarm rate and land.
        chip_window: size of a chip.
        declaration: bands and unit of the scene.
        contract: bands and units of the model.
        progress: called with numbers of windows.
        land_side: a large bright region is land if its area is at least that of a
            square with this side, in pixels; None takes four chips.

    Returns:
        The objects, in order from the top left.

    Raises:
        RequestError: a band is not SAR, or the polygons of land cannot be used.
        DataError: the scene cannot be read, or its values cannot be in its unit.
    """
    if not set(contract.used_bands) <= {*POLARIZATIONS, "gray"}:
        raise RequestError(
            (
                "bright objects are only detected in SAR, but the model takes"
                f" {', '.join(contract.used_bands)}"
            ),
            "--detect",
            "give --at or --grid",
        )
    assert chip_window.side is not None
    start = time.perf_counter()
    side = max(4, round(chip_window.side * sum(chip_window.scale) / 2))
    detector = _Detector(
        scene, options, side, contract, declaration, land_side or 4 * side
    )
    try:
        looks = detector.measure_water(
            _report_windows(scene, progress, "measuring the water")
        )
        for window in _report_windows(scene, progress, "detecting"):
            detector.detect(window)
    finally:
        detector.reader.close()
    ordered = sorted(detector.objects, key=lambda bright: (bright.row, bright.col))
    locations = [
        Location(
            x.row,
            x.col,
            tuple(x.corners.ravel().tolist()),
            f"{scene.name}_d{i:06d}",
            score=round(x.contrast, 2),
        )
        for i, x in enumerate(ordered, 1)
    ]
    seconds = time.perf_counter() - start
    megapixels = scene.height * scene.width / 1e6
    level = 10 * np.log10(np.median(detector.thresholds))
    notes = [
        (
            f"{len(locations):,} bright objects in {seconds:.1f} s"
            f" ({len(locations) / seconds:.3g} per second, {megapixels / seconds:.3g}"
            " million pixels per second)"
        ),
        (
            f"CA-CFAR threshold: {level:.1f} dB above the surroundings (false alarm"
            f" rate {options.pfa:g}, {np.median(looks):.1f} looks). Detected objects"
            " are not always ships."
        ),
        "land was searched too (--land none)",
    ]
    land = detector.land
    if land is not None:
        share = 100 * detector.land_pixels / (scene.height * scene.width)
        ignored = f"{detector.land_objects:,} bright objects on it were ignored"
        notes[2] = f"{share:.1f} % of the scene is land ({land.description}); {ignored}"
    if detector.oversized:
        notes.append(
            f"left out as longer than {_MAX_SIDES:g} chips: {detector.oversized:,}"
            " bright objects"
        )
    return SceneLocations(
        locations, notes=[f"{scene.path.name}: {note}" for note in notes]
    )


def detect_objects(
    scene: RasterScene,
    options: CfarOptions,
    declaration: Declaration,
    progress: Progress | None,
) -> SceneLocations:
    """Detect bright objects up to the size of the largest ships, in all polarizations of a scene.

    Args:
        scene: the scene, with a georeference.
        options: options of the detector.
        declaration: unit and bands of the scene, if the file does not name them.
        progress: called with numbers of windows.

    Raises:
        RequestError: the declared unit contradicts the file.
        DataError: the scene cannot be read, or its pixels have no unit.
    """
    stored = scene.in_unit(scene.product.unit)  # a calibration would only take time
    if declaration.unit:
        scene = declare_unit(scene, declaration.unit)
    else:
        scene = stored
    names = declaration.bands or scene.bands or ("gray",)
    if names == ("gray",) and scene.count not in (
        1,
        3,
    ):  # three equal bands may be one gray band
        raise RequestError(
            f"the scene has {scene.count} bands without names",
            scene.path,
            "name them in the order of the file: --bands VV,VH",
        )
    bands = tuple(name for name in names if name in POLARIZATIONS) or names
    unit = scene.unit or (scene.dtype if scene.dtype in DIGITAL_UNITS else "sigma0")
    contract = ChipSpec(units=(unit,), bands=bands, owner="the detection")
    assert scene.spacing is not None
    is_unknown = scene.unit is None and unit == "sigma0"
    if is_unknown:
        declaration = replace(declaration, unit=unit)
    else:
        declaration = declaration
    land_side = round(_SMALLEST_LAND / float(np.mean(scene.spacing)))
    result = detect_bright_objects(
        scene, options, ship_window(scene), declaration, contract, progress, land_side
    )
    if is_unknown:
        result.notes.insert(
            0,
            (
                f"{scene.path.name} declares no unit: its values are taken as linear, as in"
                " sigma0; else give --unit db"
            ),
        )
    return result


def ship_window(scene: RasterScene) -> ChipWindow:
    """Return the size of chips that show the largest ships of a scene with a georeference."""
    assert scene.spacing is not None
    return ChipWindow(
        max(16, round(_LARGEST_SHIP / float(np.mean(scene.spacing)))), 0, (1.0, 1.0)
    )


def _report_windows(
    scene: RasterScene, progress: Progress | None, label: str
) -> Iterator[PixelWindow]:
    windows = list(scene.windows())
    for number, window in enumerate(windows, 1):
        yield window
        if progress:
            progress(number, len(windows), f"{label}, {scene.name}")


class _Detector:
    """Finds objects window by window.

    Attributes:
        land: the mask of land; None searches everywhere.
        window: the surroundings of a pixel.
        thresholds: smallest ratio of a bright pixel to its surroundings in each block
            (B, r, c).
        objects: the objects, in pixels of the scene.
        oversized: number of objects longer than `_MAX_SIDES` chips, which are left out.
        land_pixels: number of pixels of land.
        land_objects: number of bright objects with their center on land, which are left
            out.
    """

    thresholds: Floats

    def __init__(
        self,
        scene: RasterScene,
        options: CfarOptions,
        side: int,
        contract: ChipSpec,
        declaration: Declaration,
        land_side: int,
    ) -> None:
        self.scene = scene
        self.options = options
        self.window = CfarWindow(side // 2, side)
        self.land_side = land_side
        self.land: PolygonLandMask | BrightLandMask | None = open_land_polygons(
            options.land, scene
        )
        indices = check_scene_bands(scene, contract, declaration)
        bands = len(contract.used_bands)
        unit, _ = contract.check_header(
            scene.dtype, bands, declaration.unit or scene.unit
        )
        self.unit = "amplitude" if unit in DIGITAL_UNITS else unit
        self.reader = SceneReader(scene, indices[:bands])
        self.objects: list[BrightObject] = []
        self.oversized = self.land_pixels = self.land_objects = 0

    def to_intensity(self, pixels: Pixels) -> Pixels:
        """Return the intensity of pixels (H, W, B) of the scene; pixels without data are 0."""
        intensity = convert_unit(pixels, self.unit, "intensity").astype(np.float32)
        return np.where(np.isfinite(intensity) & (pixels != 0), intensity, 0)

    def measure_water(self, windows: Iterable[PixelWindow]) -> Floats:
        """Measure the looks of each block (B, r, c), find bright land without polygons, and set the thresholds.

        Raises:
            DataError: the values cannot be in the unit of the scene.
        """
        land = self.land
        size = (self.scene.height, self.scene.width)
        medians: list[float] = []  # of the windows

        def read_water(window: PixelWindow) -> Pixels:
            pixels = self.reader(window)
            sample = pixels[::8, ::8]
            sample = sample[np.isfinite(sample) & (sample != 0)]
            if sample.size:
                medians.append(float(np.median(sample)))
            intensity = self.to_intensity(pixels)
            if land is None:
                return intensity
            return np.where(land(window)[:, :, None], 0, intensity)

        mean, cell_looks = measure_cells(
            size, len(self.reader.indices), windows, read_water
        )
        try:  # single pixels may be below 0 after the noise was subtracted
            if medians:
                check_unit(np.array([np.median(medians)], np.float32), self.unit)
        except DataError as error:
            raise DataError(
                f"the median of the pixels has {error.message}",
                self.scene.path,
                error.hint,
            ) from error
        if (
            land is None and self.options.land != "none"
        ):  # polygons were left out before
            self.land = BrightLandMask(mean[0], self.land_side)
            cell_looks = np.where(self.land.mask, np.nan, cell_looks)
        looks = np.stack([looks_by_block(plane) for plane in cell_looks])
        self.thresholds = cfar_threshold(self.options.pfa, looks, self.window.cells)
        return looks

    def detect(self, window: PixelWindow) -> None:
        """Add the objects with their center in the window."""
        side = 2 * self.window.guard
        margin = self.window.outer + self.window.guard
        top = window.top - margin
        left = window.left - margin
        padded = PixelWindow(top, left, window.bottom + margin, window.right + margin)
        planes = np.moveaxis(self.to_intensity(self.reader(padded)), 2, 0)
        thresholds = [
            expand_blocks(blocks, padded, BLOCK).astype(np.float32)
            for blocks in self.thresholds
        ]
        if self.land is None:
            is_land = np.zeros(planes.shape[1:], bool)
        else:
            is_land = self.land(padded)

        def find(searched: _Mask) -> list[BrightObject]:
            """Return the objects with their center in the window that are bright in any band."""
            ratios = [
                cfar_contrast(plane, (plane > 0) & searched, self.window)
                for plane in planes
            ]
            mask = np.any(
                [
                    ratio > threshold
                    for ratio, threshold in zip(ratios, thresholds, strict=True)
                ],
                axis=0,
            )
            return [
                x
                for x in find_bright_objects(
                    np.max(ratios, axis=0), mask, max(1, side // _GAP_DIVISOR)
                )
                if x.sides.prod() >= _MIN_AREA_SHARE * side**2
                and window.top <= x.row + top < window.bottom
                and window.left <= x.col + left < window.right
            ]

        objects = find(~is_land)
        small = [x for x in objects if x.sides.max() <= _MAX_SIDES * side]
        self.oversized += len(objects) - len(small)
        origin = np.array([top, left])
        self.objects += [
            BrightObject(x.row + top, x.col + left, x.corners + origin, x.contrast)
            for x in small
        ]
        if is_land.any():
            self.land_pixels += int(is_land[margin:-margin, margin:-margin].sum())
            self.land_objects += sum(
                bool(is_land[int(x.row), int(x.col)])
                for x in find(np.ones_like(is_land))
            )


class CfarWindow(NamedTuple):
    """The surroundings of a pixel: all pixels between two squares around it.

    Attributes:
        guard: the inner square has 2 guard + 1 pixels per side.
        outer: the outer square has 2 outer + 1 pixels per side.
    """

    guard: int
    outer: int

    @property
    def cells(self) -> int:
        """Number of pixels between the squares."""
        return (2 * self.outer + 1) ** 2 - (2 * self.guard + 1) ** 2


class BrightObject(NamedTuple):
    """Connected bright pixels.

    Attributes:
        row: row of the center, weighted by contrast.
        col: column of the center, weighted by contrast.
        corners: (4, 2), row and column of the smallest rectangle around the pixels.
        contrast: largest ratio of a pixel to the mean of its surroundings, in dB.
    """

    row: float
    col: float
    corners: Floats
    contrast: float

    @property
    def sides(self) -> Floats:
        """Lengths of the two sides of the rectangle in pixels."""
        return np.asarray(np.linalg.norm(np.diff(self.corners[:3], axis=0), axis=1))


def cfar_threshold(pfa: float, looks: Floats, cells: int) -> Floats:
    """Return the ratio to the mean of `cells` other pixels that water with these looks exceeds with probability pfa."""
    return np.asarray(stats.f.isf(pfa, 2 * looks, 2 * looks * cells), np.float64)


def cfar_contrast(intensity: _Plane32, valid: _Mask, window: CfarWindow) -> _Plane32:
    """Compute the ratio of each pixel to the mean of its surroundings.

    Args:
        intensity: (H, W).
        valid: (H, W), True for pixels of water and of objects on water.
        window: the surroundings.

    Returns:
        The ratio (H, W); 0 where the pixel is not valid or too few pixels of its
        surroundings are.
    """
    values = np.where(valid, intensity, 0).astype(np.float32)
    weights = valid.astype(np.float32)
    total = _box_sum(values, window.outer) - _box_sum(values, window.guard)
    count = _box_sum(weights, window.outer) - _box_sum(weights, window.guard)
    usable = valid & (count >= _MIN_VALID_FRACTION * window.cells) & (total > 0)
    ratio = np.zeros(values.shape, np.float32)
    np.divide(values * count, total, out=ratio, where=usable, casting="same_kind")
    return ratio


def _box_sum(values: _Plane32, half_side: int) -> Floats:
    side = 2 * half_side + 1
    sums = cv2.boxFilter(
        values,
        cv2.CV_64F,
        (side, side),
        normalize=False,
        borderType=cv2.BORDER_CONSTANT,
    )
    return np.asarray(sums, np.float64)


def find_bright_objects(ratio: _Plane32, mask: _Mask, gap: int) -> list[BrightObject]:
    """Group bright pixels into objects.

    Args:
        ratio: (H, W), see `cfar_contrast`.
        mask: (H, W), True for bright pixels.
        gap: number of dark pixels that may lie between the pixels of an object.

    Returns:
        The objects with at least 3 pixels.
    """
    dilated = cv2.dilate(mask.astype(np.uint8), np.ones((gap + 1, gap + 1), np.uint8))
    _, label_image = cv2.connectedComponents(dilated, connectivity=8)
    all_rows, all_cols = np.nonzero(mask)
    labels = label_image[all_rows, all_cols]
    order = np.argsort(labels, kind="stable")
    objects = []
    for group in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(group) >= _MIN_OBJECT_PIXELS:
            rows, cols = all_rows[group], all_cols[group]
            weights = ratio[rows, cols].astype(np.float64)
            row = float(np.average(rows, weights=weights) + 0.5)
            col = float(np.average(cols, weights=weights) + 0.5)
            pixel_corners = np.concatenate(
                [np.stack([cols + dx, rows + dy], 1) for dy in (0, 1) for dx in (0, 1)]
            )
            box = cv2.boxPoints(cv2.minAreaRect(pixel_corners.astype(np.float32)))[
                :, ::-1
            ].astype(np.float64)
            objects.append(
                BrightObject(row, col, box, 10 * float(np.log10(weights.max())))
            )
    return objects


def measure_cells(
    size: tuple[int, int],
    bands: int,
    windows: Iterable[PixelWindow],
    read: Callable[[PixelWindow], Pixels],
) -> tuple[Floats, Floats]:
    """Measure all cells of a scene.

    Args:
        size: height and width of the scene.
        bands: number of bands.
        windows: cover the scene once.
        read: returns the intensity (H, W, B) of a window, 0 without data.

    Returns:
        Mean intensity (B, R, C), NaN without data; and equivalent number of looks (B,
        R, C), NaN where less than half of the cell has data, or it is constant.
    """
    shape = (bands, -(-size[0] // CELL), -(-size[1] // CELL))
    total = np.zeros(shape)
    squares = np.zeros(shape)
    count = np.zeros(shape)
    for window in windows:
        rows = np.arange(window.top, window.bottom) // CELL
        cols = np.arange(window.left, window.right) // CELL
        cells = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        first_row = np.flatnonzero(np.diff(rows, prepend=-1))
        first_col = np.flatnonzero(np.diff(cols, prepend=-1))
        for band, plane in enumerate(
            np.moveaxis(read(window), 2, 0).astype(np.float64)
        ):
            for sums, values in (
                (total, plane),
                (squares, plane**2),
                (count, (plane > 0).astype(np.float64)),
            ):
                sums[band][cells] += np.add.reduceat(
                    np.add.reduceat(values, first_row, axis=0), first_col, axis=1
                )
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        variance = squares / count - mean**2
        looks = mean**2 / variance
    usable = (count >= CELL**2 / 2) & (
        variance > 1e-9 * mean**2
    )  # a constant cell has no speckle
    return mean, np.where(usable, looks, np.nan)


def looks_by_block(looks: Floats) -> Floats:
    """Return the number of looks of every block of one band.

    Args:
        looks: numbers of looks of the cells (R, C); NaN for cells that do not count.

    Returns:
        Median over the cells of each block and its neighbors (r, c), limited to 1-100.
        Blocks with few cells have the median of the scene; without any cell it is 1,
        which gives the highest threshold.
    """
    side = BLOCK // CELL
    rows, cols = (-(-length // side) for length in looks.shape)
    if np.isfinite(looks).any():
        scene = float(np.nanmedian(looks))
    else:
        scene = 1.0
    blocks = np.full((rows, cols), scene)
    for row, col in np.ndindex(rows, cols):
        cells = looks[
            max(0, row - 1) * side : (row + 2) * side,
            max(0, col - 1) * side : (col + 2) * side,
        ]
        cells = cells[np.isfinite(cells)]
        if len(cells) >= _MIN_CELLS:
            blocks[row, col] = np.median(cells)
    return np.clip(blocks, *_LOOKS_RANGE)


def expand_blocks(blocks: NDArray[Any], window: PixelWindow, side: int) -> NDArray[Any]:
    """Return the value of the block of every pixel (H, W).

    Args:
        blocks: values of the blocks (r, c).
        window: a window of the scene; beyond its edge, the nearest block counts.
        side: side of a block in pixels.

    Returns:
        Values (H, W).
    """
    rows = (np.arange(window.top, window.bottom) // side).clip(0, blocks.shape[0] - 1)
    cols = (np.arange(window.left, window.right) // side).clip(0, blocks.shape[1] - 1)
    return np.asarray(blocks[rows][:, cols])


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
        assert georeference is not None and spacing is not None
        outline = georeference.pixels_to_lonlat(
            *rectangle_corners(0, 0, scene.height, scene.width).T
        )
        clipped = [
            x
            for rectangle in _surroundings(outline)
            for x in shapely.clip_by_rect(polygons, *rectangle)
        ]
        nearby = [
            shape
            for shape in clipped
            if shape is not None and not shape.is_empty and shape.area
        ]
        shapes = [
            shapely.transform(
                shape, lambda xy: georeference.lonlat_to_pixels(*xy.T)[:, ::-1]
            )
            for shape in nearby
        ]
        pixels = margin_m / max(spacing)
        if pixels:
            self.shapes = [shapely.make_valid(shape).buffer(pixels) for shape in shapes]
        else:
            self.shapes = shapes

    def __call__(self, window: PixelWindow) -> _Mask:
        """Return which pixels of a window of the scene are land (H, W)."""
        size = (window.bottom - window.top, window.right - window.left)
        if not self.shapes:
            return np.zeros(size, bool)
        origin = Affine.translation(window.left, window.top)
        return np.asarray(
            rasterize(
                self.shapes, size, transform=origin, all_touched=True, dtype="uint8"
            ),
            bool,
        )


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
        if scene.georeference is None:
            raise RequestError(
                "the scene has no georeference, so polygons of land cannot be used",
                source,
                "leave out --land",
            )
        hint = f"give .gpkg, .geojson or another layer, or {', '.join(LAND_KEYWORDS)}"
        try:
            land = read_annotations(source)
        except RequestError as error:
            raise RequestError(error.message, source, hint) from error
        if land.crs in (None, PIXEL, FRACTION):
            raise RequestError(
                "the polygons have no coordinate system", source, "export them with one"
            )
        try:
            polygons = shapely.make_valid(
                land.table.geometry.set_crs(land.crs).to_crs(LONLAT).to_numpy()
            )
        except READ_ERRORS as error:
            raise RequestError(
                f"the polygons cannot be read: {error}", source, hint
            ) from error
        return PolygonLandMask(polygons, scene, str(source))
    if source != "auto" or scene.georeference is None or find_spec(_PACKAGE) is None:
        return None
    description = (
        f"shorelines of OpenStreetMap (roaring-landmask {version(_PACKAGE)}) and"
        f" {_SHORE_METERS:g} m of sea"
    )
    return PolygonLandMask([_read_shorelines()], scene, description, _SHORE_METERS)


@lru_cache(maxsize=1)
def _read_shorelines() -> Any:
    """Return all land of the world.

    Reading it takes several seconds, so it is kept (100 MB) for the next scene.
    """
    package = importlib.import_module(_PACKAGE)
    return shapely.from_wkb(bytes(package.Shapes.wkb(package.LandmaskProvider.Osm)))


def _surroundings(outline: Floats) -> list[tuple[float, float, float, float]]:
    """Return west, south, east and north around corners in degrees (N, 2); two rectangles across the date line."""
    (west, south), (east, north) = (
        outline.min(0) - _MARGIN_DEGREES,
        outline.max(0) + _MARGIN_DEGREES,
    )
    if east - west < 180:
        return [(west, south, east, north)]
    lon = outline[:, 0]
    east_of_line = lon[lon < 0].max() + _MARGIN_DEGREES
    west_of_line = lon[lon > 0].min() - _MARGIN_DEGREES
    return [(-180, south, east_of_line, north), (west_of_line, south, 180, north)]


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
        self.mask: _Mask = np.zeros(means.shape, bool)
        has_data = means > 0
        if has_data.sum() < 2:
            return
        level = 10 * np.log10(np.where(has_data, means, np.nan))
        bright = has_data & (level > _otsu_threshold(level[has_data]))
        if (
            bright.any()
            and np.nanmean(level[bright]) - np.nanmean(level[has_data & ~bright])
            > _MIN_CONTRAST_DB
        ):
            labels = np.asarray(ndimage.label(bright, np.ones((3, 3)))[0])
            is_large = np.bincount(labels.ravel()) >= (side / CELL) ** 2
            is_large[0] = False
            shore = max(1, round(side / 8 / CELL))
            self.mask = ndimage.binary_dilation(
                ndimage.binary_fill_holes(is_large[labels]), iterations=shore
            )

    def __call__(self, window: PixelWindow) -> _Mask:
        """Return which pixels of a window of the scene are land (H, W)."""
        return expand_blocks(self.mask, window, CELL)


def _otsu_threshold(values: Floats) -> float:
    """Return the threshold that separates two groups of values (Otsu 1979), in steps of 1/255 of their range."""
    low, high = np.percentile(values, [0.5, 99.5])
    if not high > low:
        return float(high)
    scaled = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    level = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    return float(low + level / 255 * (high - low))
