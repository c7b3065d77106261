"""Detect bright objects on dark water, window by window. This is a convenience, not a ship detector.

The scene is read twice: first to measure the number of looks and to find land, then to find objects.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS, convert_unit
from rsft.errors import RequestError
from rsft.inference.detection.cfar import (
    BrightObject,
    CfarWindow,
    cfar_contrast,
    cfar_threshold,
    find_bright_objects,
)
from rsft.inference.detection.clutter import CELL, CellStatistics, expand_blocks, looks_by_block, measure_cells
from rsft.inference.detection.land_mask import BrightLandMask, LandMask, open_land_polygons
from rsft.inference.detection.options import CfarOptions
from rsft.inference.inputs.discovery import Declaration
from rsft.inference.inputs.scene_chips import check_scene_bands
from rsft.inference.scenes.chip_window import ChipWindow
from rsft.inference.scenes.locations import Location, SceneLocations
from rsft.inference.scenes.raster import PixelWindow, RasterScene, SceneReader
from rsft.types import Floats, Pixels, Progress

_GAP_DIVISOR = 16  # pixels of an object may be apart by the chip's side divided by this
_MIN_AREA_SHARE = 1 / 800  # smallest share of a chip's area that an object covers; chosen on 7 images of SSDD


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


@dataclass(frozen=True)
class _Detector:
    """Everything that the detection in a window needs.

    Attributes:
        read: reads the intensity.
        land: the mask of land; None searches everywhere.
        window: the surroundings of a pixel.
        thresholds: smallest ratio of a bright pixel to its surroundings in each block (B, r, c).
    """

    read: _IntensityReader
    land: LandMask | None
    window: CfarWindow
    thresholds: Floats


@dataclass
class _Found:
    """The objects that were found so far, and what was left out.

    Attributes:
        locations: the objects.
        oversized: number of objects larger than a chip.
        land_pixels: number of pixels of land.
        land_objects: number of bright objects with their center on land.
    """

    locations: list[Location] = field(default_factory=list)
    oversized: int = 0
    land_pixels: int = 0
    land_objects: int = 0


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
    try:
        cells = _measure(scene, read, land, progress)
        if land is None and options.land != "none":
            land = BrightLandMask(cells.mean[0], CELL, side)
        window = CfarWindow(side // 2, side)
        looks = [looks_by_block(_without_land(plane, land)) for plane in cells.looks]
        detector = _Detector(read, land, window, cfar_threshold(options.pfa, np.stack(looks), window.cells))
        found = _Found()
        for part in _report_windows(scene, progress, "detecting"):
            _detect_in_window(part, detector, found)
    finally:
        read.reader.close()
    ordered = sorted(found.locations, key=lambda location: (location.row, location.col))
    locations = [
        Location(x.row, x.col, x.box, f"{scene.name}_d{number:06d}", None, x.score)
        for number, x in enumerate(ordered, 1)
    ]
    notes = _notes(scene, options, np.stack(looks), detector, found)
    return SceneLocations(locations, [], [_speed(scene, len(locations), time.perf_counter() - start), *notes])


def _speed(scene: RasterScene, objects: int, seconds: float) -> str:
    megapixels = scene.height * scene.width / 1e6
    return (
        f"{scene.path.name}: {objects:,} bright objects in {seconds:.1f} s ({objects / seconds:.3g} per second, "
        f"{megapixels / seconds:.3g} million pixels per second)"
    )


def _notes(scene: RasterScene, options: CfarOptions, looks: Floats, detector: _Detector, found: _Found) -> list[str]:
    name, land = scene.path.name, detector.land
    levels = 10 * np.log10(np.quantile(detector.thresholds, (0, 0.5, 1)))
    least, median, most = np.quantile(looks, (0, 0.5, 1))
    notes = [
        f"{name}: bright objects by CA-CFAR, which may not be ships: {levels[1]:.1f} dB above their surroundings "
        f"({levels[0]:.1f} to {levels[2]:.1f} dB), for {options.pfa:g} false alarms per pixel at {median:.1f} looks "
        f"({least:.1f} to {most:.1f}, measured in blocks)"
    ]
    if land is None:
        notes.append(f"{name}: land was searched too (--land none)")
    else:
        share = f"{found.land_pixels / (scene.height * scene.width):.1%} with {found.land_objects:,} bright objects"
        notes.append(f"{name}: left out as land: {share}, by {land.description}")
    oversized = f"{name}: left out as larger than a chip: {found.oversized:,} bright objects"
    return [*notes, oversized] if found.oversized else notes


def _detect_in_window(window: PixelWindow, detector: _Detector, found: _Found) -> None:
    """Add the objects with their center in the window."""
    cfar_window, land = detector.window, detector.land
    margin = cfar_window.outer + cfar_window.guard
    padded = PixelWindow(window.top - margin, window.left - margin, window.bottom + margin, window.right + margin)
    planes = np.moveaxis(detector.read(padded), 2, 0)
    thresholds = [expand_blocks(blocks, padded) for blocks in detector.thresholds]
    is_land = np.zeros(planes.shape[1:], bool) if land is None else land(padded)
    for bright in _find(planes, ~is_land, thresholds, cfar_window):
        row, col = bright.row + padded.top, bright.col + padded.left
        if not _contains(window, row, col):
            continue
        if bright.sides.max() > 2 * cfar_window.guard:
            found.oversized += 1
            continue
        box = bright.corners + np.array([padded.top, padded.left])
        found.locations.append(Location(row, col, tuple(box.ravel().tolist()), "", None, round(bright.contrast, 2)))
    if is_land.any():
        found.land_pixels += int(is_land[margin:-margin, margin:-margin].sum())
        found.land_objects += sum(
            bool(is_land[int(bright.row), int(bright.col)])
            and _contains(window, bright.row + padded.top, bright.col + padded.left)
            for bright in _find(planes, np.ones_like(is_land), thresholds, cfar_window)
        )


def _find(
    planes: Pixels, searched: NDArray[np.bool_], thresholds: list[NDArray[np.float32]], cfar_window: CfarWindow
) -> list[BrightObject]:
    """Return the objects that are bright in any band (B, H, W)."""
    ratios = [cfar_contrast(plane, (plane > 0) & searched, cfar_window) for plane in planes]
    mask = np.any([ratio > threshold for ratio, threshold in zip(ratios, thresholds, strict=True)], axis=0)
    gap = max(1, 2 * cfar_window.guard // _GAP_DIVISOR)
    objects = find_bright_objects(np.max(ratios, axis=0), mask, gap)
    return [bright for bright in objects if bright.sides.prod() >= _MIN_AREA_SHARE * (2 * cfar_window.guard) ** 2]


def _contains(window: PixelWindow, row: float, col: float) -> bool:
    return window.top <= row < window.bottom and window.left <= col < window.right


def _measure(
    scene: RasterScene, read: _IntensityReader, land: LandMask | None, progress: Progress | None
) -> CellStatistics:
    def read_water(window: PixelWindow) -> Pixels:
        intensity = read(window)
        return intensity if land is None else np.where(land(window)[:, :, None], 0, intensity)

    windows = _report_windows(scene, progress, "measuring the water")
    return measure_cells((scene.height, scene.width), read.bands, windows, read_water)


def _without_land(looks: Floats, land: LandMask | None) -> Floats:
    """Return numbers of looks of cells (R, C), NaN for those in large bright regions; polygons were left out before."""
    return np.where(land.mask, np.nan, looks) if isinstance(land, BrightLandMask) else looks


def _report_windows(scene: RasterScene, progress: Progress | None, label: str) -> Iterator[PixelWindow]:
    windows = list(scene.windows())
    for number, window in enumerate(windows, 1):
        yield window
        if progress:
            progress(number, len(windows), f"{label}, {scene.name}")
