"""Detect bright objects on dark water, window by window. This is a convenience, not a ship detector.

The scene is read twice. The first pass measures the water and finds land. The second one finds objects by a
cell-averaging constant false alarm rate (CA-CFAR): pixels that are brighter than their surroundings. With L looks, the
intensity of homogeneous water is gamma distributed, and its ratio to the mean of N other pixels follows F(2L, 2LN)
(Oliver and Quegan 2004, section 10.3). For L = 1 the threshold is N (p^(-1/N) - 1).

The number of looks of a cell of 16 x 16 pixels is mean^2 / variance of its intensity. Wind, waves and ice make water
rougher than speckle alone, and lower this number. So it is measured in every block of 256 x 256 pixels, as the median
over the cells of the block and of its eight neighbors. Ships are in few cells, so they do not change the median.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS, convert_unit
from rsft.errors import RequestError
from rsft.inference.detection.land_mask import BrightLandMask, LandMask, Mask, open_land_polygons
from rsft.inference.inputs.scene_chips import check_scene_bands
from rsft.inference.options import CfarOptions, Declaration
from rsft.inference.scenes.chip_window import ChipWindow
from rsft.inference.scenes.locations import Location, SceneLocations
from rsft.inference.scenes.raster import PixelWindow, RasterScene, SceneReader
from rsft.types import Floats, Pixels, Progress

CELL = 16
"""Side in pixels of the cells in which mean and variance are measured."""

BLOCK = 256
"""Side in pixels of the blocks that have one number of looks each."""

_MIN_CELLS = 32  # a block with fewer usable cells takes the number of looks of the scene
_LOOKS_RANGE = (1.0, 100.0)
_MIN_VALID_FRACTION = 0.25  # smallest share of the surroundings that must be valid
_MIN_OBJECT_PIXELS = 3
_GAP_DIVISOR = 16  # pixels of an object may be apart by the chip's side divided by this
_MIN_AREA_SHARE = 1 / 800  # smallest share of a chip's area that an object covers; chosen on 7 images of SSDD


def detect_bright_objects(
    scene: RasterScene,
    options: CfarOptions,
    chip_window: ChipWindow,
    declaration: Declaration,
    contract: Contract,
    progress: Progress | None,
) -> SceneLocations:
    """Detect objects that are brighter than the water around them and not larger than a chip.

    The surroundings of a pixel lie between two squares around it, with sides of one and two chips: a chip contains the
    whole object, so an object in the middle does not reach its surroundings.

    Args:
        scene: the scene.
        options: false alarm rate and land.
        chip_window: size of a chip.
        declaration: bands and unit of the scene.
        contract: bands and units of the model.
        progress: called with numbers of windows.

    Returns:
        The objects, in order from the top left.

    Raises:
        RequestError: a band is not SAR, or the polygons of land cannot be used.
        DataError: the scene cannot be read.
    """
    if not set(contract.used_bands) <= {*POLARIZATIONS, "gray"}:
        message = f"bright objects are only detected in SAR, but the model takes {', '.join(contract.used_bands)}"
        raise RequestError(message, "--detect", "give --at or --grid")
    assert chip_window.side is not None
    start = time.perf_counter()
    side = max(4, round(chip_window.side * sum(chip_window.scale) / 2))
    land: LandMask | None = open_land_polygons(options.land, scene)
    read = _IntensityReader(scene, contract, declaration)

    def read_water(window: PixelWindow) -> Pixels:
        intensity = read(window)
        return intensity if land is None else np.where(land(window)[:, :, None], 0, intensity)

    try:
        windows = _report_windows(scene, progress, "measuring the water")
        cells = measure_cells((scene.height, scene.width), read.bands, windows, read_water)
        if land is None and options.land != "none":
            land = BrightLandMask(cells.mean[0], CELL, side)
        if isinstance(land, BrightLandMask):  # polygons were left out before
            cells = cells._replace(looks=np.where(land.mask, np.nan, cells.looks))
        looks = np.stack([looks_by_block(plane) for plane in cells.looks])
        detector = _Detector(read, land, CfarWindow(side // 2, side), looks, options.pfa)
        for window in _report_windows(scene, progress, "detecting"):
            detector.detect(window)
    finally:
        read.reader.close()
    ordered = sorted(detector.objects, key=lambda bright: (bright.row, bright.col))
    locations = [
        Location(x.row, x.col, tuple(x.corners.ravel().tolist()), f"{scene.name}_d{i:06d}", score=round(x.contrast, 2))
        for i, x in enumerate(ordered, 1)
    ]
    seconds, megapixels = time.perf_counter() - start, scene.height * scene.width / 1e6
    level = 10 * np.log10(np.median(detector.thresholds))
    notes = [
        f"{len(locations):,} bright objects in {seconds:.1f} s ({len(locations) / seconds:.3g} per second, "
        f"{megapixels / seconds:.3g} million pixels per second)",
        f"CA-CFAR threshold: {level:.1f} dB above the surroundings (false alarm rate {options.pfa:g}, "
        f"{np.median(looks):.1f} looks). Detected objects are not always ships.",
        "land was searched too (--land none)",
    ]
    if land is not None:
        share = 100 * detector.land_pixels / (scene.height * scene.width)
        ignored = f"{detector.land_objects:,} bright objects on it were ignored"
        notes[2] = f"{share:.1f} % of the scene is land ({land.description}); {ignored}"
    if detector.oversized:
        notes.append(f"left out as larger than a chip: {detector.oversized:,} bright objects")
    return SceneLocations(locations, notes=[f"{scene.path.name}: {note}" for note in notes])


def _report_windows(scene: RasterScene, progress: Progress | None, label: str) -> Iterator[PixelWindow]:
    windows = list(scene.windows())
    for number, window in enumerate(windows, 1):
        yield window
        if progress:
            progress(number, len(windows), f"{label}, {scene.name}")


class _IntensityReader:
    """Reads windows of a scene as intensity (H, W, B); pixels without data are 0."""

    def __init__(self, scene: RasterScene, contract: Contract, declaration: Declaration) -> None:
        indices = check_scene_bands(scene, contract, declaration)
        self.bands = len(contract.used_bands)
        self.unit, _ = contract.check_header(scene.dtype, self.bands, declaration.unit or scene.unit)
        self.reader = SceneReader(scene, indices[: self.bands])

    def __call__(self, window: PixelWindow) -> Pixels:
        pixels = self.reader(window)
        unit = "amplitude" if self.unit in DIGITAL_UNITS else self.unit
        intensity = convert_unit(pixels, unit, "intensity").astype(np.float32)
        return np.where(np.isfinite(intensity) & (pixels != 0), intensity, 0)


class _Detector:
    """Finds objects window by window.

    Args:
        read: reads the intensity.
        land: the mask of land; None searches everywhere.
        window: the surroundings of a pixel.
        looks: number of looks of each block (B, r, c).
        pfa: probability of a false alarm.

    Attributes:
        thresholds: smallest ratio of a bright pixel to its surroundings in each block (B, r, c).
        objects: the objects, in pixels of the scene.
        oversized: number of objects larger than a chip, which are left out.
        land_pixels: number of pixels of land.
        land_objects: number of bright objects with their center on land, which are left out.
    """

    def __init__(
        self, read: _IntensityReader, land: LandMask | None, window: CfarWindow, looks: Floats, pfa: float
    ) -> None:
        self.read, self.land, self.window = read, land, window
        self.thresholds = cfar_threshold(pfa, looks, window.cells)
        self.objects: list[BrightObject] = []
        self.oversized = self.land_pixels = self.land_objects = 0

    def detect(self, window: PixelWindow) -> None:
        """Add the objects with their center in the window."""
        side, margin = 2 * self.window.guard, self.window.outer + self.window.guard
        top, left = window.top - margin, window.left - margin
        padded = PixelWindow(top, left, window.bottom + margin, window.right + margin)
        planes = np.moveaxis(self.read(padded), 2, 0)
        thresholds = [expand_blocks(blocks, padded) for blocks in self.thresholds]
        is_land = np.zeros(planes.shape[1:], bool) if self.land is None else self.land(padded)

        def find(searched: Mask) -> list[BrightObject]:
            """Return the objects with their center in the window that are bright in any band."""
            ratios = [cfar_contrast(plane, (plane > 0) & searched, self.window) for plane in planes]
            mask = np.any([ratio > threshold for ratio, threshold in zip(ratios, thresholds, strict=True)], axis=0)
            bright = find_bright_objects(np.max(ratios, axis=0), mask, max(1, side // _GAP_DIVISOR))
            return [
                x
                for x in bright
                if x.sides.prod() >= _MIN_AREA_SHARE * side**2
                and window.top <= x.row + top < window.bottom
                and window.left <= x.col + left < window.right
            ]

        objects = find(~is_land)
        small = [x for x in objects if x.sides.max() <= side]
        self.oversized += len(objects) - len(small)
        origin = np.array([top, left])
        self.objects += [BrightObject(x.row + top, x.col + left, x.corners + origin, x.contrast) for x in small]
        if is_land.any():
            self.land_pixels += int(is_land[margin:-margin, margin:-margin].sum())
            self.land_objects += sum(bool(is_land[int(x.row), int(x.col)]) for x in find(np.ones_like(is_land)))


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
    corners: NDArray[np.float64]
    contrast: float

    @property
    def sides(self) -> Floats:
        """Lengths of the two sides of the rectangle in pixels."""
        return np.asarray(np.linalg.norm(np.diff(self.corners[:3], axis=0), axis=1))


def cfar_threshold(pfa: float, looks: Floats | float, cells: int) -> Floats:
    """Return the ratio to the mean of the surroundings that water exceeds with probability `pfa`.

    Args:
        pfa: probability of a false alarm.
        looks: equivalent numbers of looks, of any shape.
        cells: number of pixels in the surroundings.

    Returns:
        One ratio per number of looks.
    """
    looks = np.asarray(looks, np.float64)
    return np.asarray(stats.f.isf(pfa, 2 * looks, 2 * looks * cells), np.float64)


def cfar_contrast(intensity: NDArray[np.float32], valid: Mask, window: CfarWindow) -> NDArray[np.float32]:
    """Compute the ratio of each pixel to the mean of its surroundings.

    Args:
        intensity: (H, W).
        valid: (H, W), True for pixels of water and of objects on water.
        window: the surroundings.

    Returns:
        The ratio (H, W); 0 where the pixel is not valid or too few pixels of its surroundings are.
    """
    values = np.where(valid, intensity, 0).astype(np.float32)
    weights = valid.astype(np.float32)
    total, count = (_box_sum(x, window.outer) - _box_sum(x, window.guard) for x in (values, weights))
    usable = valid & (count >= _MIN_VALID_FRACTION * window.cells) & (total > 0)
    ratio = np.zeros(values.shape, np.float32)
    np.divide(values * count, total, out=ratio, where=usable, casting="same_kind")
    return ratio


def find_bright_objects(ratio: NDArray[np.float32], mask: Mask, gap: int) -> list[BrightObject]:
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
    rows, cols = np.nonzero(mask)
    labels = label_image[rows, cols]
    order = np.argsort(labels, kind="stable")
    boundaries = np.flatnonzero(np.diff(labels[order])) + 1
    groups = [group for group in np.split(order, boundaries) if len(group) >= _MIN_OBJECT_PIXELS]
    return [_bright_object(rows[group], cols[group], ratio) for group in groups]


def _bright_object(rows: NDArray[Any], cols: NDArray[Any], ratio: NDArray[np.float32]) -> BrightObject:
    weights = ratio[rows, cols].astype(np.float64)
    row, col = np.average(rows, weights=weights) + 0.5, np.average(cols, weights=weights) + 0.5
    pixel_corners = np.stack(
        [np.concatenate([cols, cols + 1, cols, cols + 1]), np.concatenate([rows, rows, rows + 1, rows + 1])], 1
    )
    box = cv2.boxPoints(cv2.minAreaRect(pixel_corners.astype(np.float32)))[:, ::-1].astype(np.float64)
    return BrightObject(float(row), float(col), box, 10 * float(np.log10(weights.max())))


def _box_sum(values: NDArray[np.float32], half_side: int) -> NDArray[np.float64]:
    side = 2 * half_side + 1
    sums = cv2.boxFilter(values, cv2.CV_64F, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(sums, np.float64)


class CellStatistics(NamedTuple):
    """Statistics of the cells of a scene, by band.

    Attributes:
        mean: mean intensity (B, R, C); NaN without data.
        looks: equivalent number of looks (B, R, C); NaN where less than half of the cell has data, or it is constant.
    """

    mean: Floats
    looks: Floats


def measure_cells(
    size: tuple[int, int], bands: int, windows: Iterable[PixelWindow], read: Callable[[PixelWindow], Pixels]
) -> CellStatistics:
    """Measure all cells of a scene.

    Args:
        size: height and width of the scene.
        bands: number of bands.
        windows: cover the scene once.
        read: returns the intensity (H, W, B) of a window, 0 without data.

    Returns:
        The statistics.
    """
    shape = (bands, -(-size[0] // CELL), -(-size[1] // CELL))
    total, squares, count = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for window in windows:
        rows, cols = np.arange(window.top, window.bottom) // CELL, np.arange(window.left, window.right) // CELL
        cells = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        first_row, first_col = (np.flatnonzero(np.diff(numbers, prepend=-1)) for numbers in (rows, cols))
        for band, plane in enumerate(np.moveaxis(read(window), 2, 0).astype(np.float64)):
            for sums, values in ((total, plane), (squares, plane**2), (count, (plane > 0).astype(np.float64))):
                sums[band][cells] += np.add.reduceat(np.add.reduceat(values, first_row, axis=0), first_col, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        variance = squares / count - mean**2
        looks = mean**2 / variance
    usable = (count >= CELL**2 / 2) & (variance > 1e-9 * mean**2)  # a constant cell has no speckle
    return CellStatistics(mean, np.where(usable, looks, np.nan))


def looks_by_block(looks: Floats) -> Floats:
    """Return the number of looks of every block of one band.

    Args:
        looks: numbers of looks of the cells (R, C); NaN for cells that do not count.

    Returns:
        Median over the cells of each block and its neighbors (r, c), limited to 1-100. Blocks with few cells have the
        median of the scene; without any cell it is 1, which gives the highest threshold.
    """
    side = BLOCK // CELL
    rows, cols = (-(-length // side) for length in looks.shape)
    scene = float(np.nanmedian(looks)) if np.isfinite(looks).any() else 1.0
    blocks = np.full((rows, cols), scene)
    for row in range(rows):
        for col in range(cols):
            cells = looks[max(0, row - 1) * side : (row + 2) * side, max(0, col - 1) * side : (col + 2) * side]
            cells = cells[np.isfinite(cells)]
            if len(cells) >= _MIN_CELLS:
                blocks[row, col] = np.median(cells)
    return np.clip(blocks, *_LOOKS_RANGE)


def expand_blocks(blocks: Floats, window: PixelWindow) -> NDArray[np.float32]:
    """Return the value of the block of every pixel.

    Args:
        blocks: values of the blocks (r, c).
        window: a window of the scene; beyond its edge, the nearest block counts.

    Returns:
        Values (H, W).
    """
    rows = (np.arange(window.top, window.bottom) // BLOCK).clip(0, blocks.shape[0] - 1)
    cols = (np.arange(window.left, window.right) // BLOCK).clip(0, blocks.shape[1] - 1)
    return np.asarray(blocks[rows][:, cols], np.float32)
