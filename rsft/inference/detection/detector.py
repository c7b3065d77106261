"""Detect bright objects on dark water, window by window. This is a convenience, not a ship detector.

The scene is read twice: first to measure the number of looks and to find land, then to find objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS, convert_unit
from rsft.errors import RequestError
from rsft.inference.detection.cfar import CfarWindow, cfar_contrast, cfar_threshold, find_bright_objects
from rsft.inference.detection.land_mask import BrightLandMask, LandMask, PolygonLandMask
from rsft.inference.inputs.discovery import Declaration
from rsft.inference.inputs.scene_chips import check_scene_bands
from rsft.inference.scenes.chip_window import ChipWindow
from rsft.inference.scenes.locations import Location, SceneLocations
from rsft.inference.scenes.raster import PixelWindow, RasterScene, SceneReader
from rsft.types import Floats, Pixels, Progress

_CELL = 16  # side in pixels of the cells in which looks and brightness are measured
_GAP_DIVISOR = 16  # pixels of an object may be apart by the chip's side divided by this


@dataclass(frozen=True)
class CfarOptions:
    """Options of the detector.

    Attributes:
        pfa: probability of a false alarm per pixel of water.
        land: file with polygons of land; None treats large bright regions as land.
    """

    pfa: float = 1e-6
    land: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.pfa < 0.1:
            raise RequestError(
                f"the false alarm rate of {self.pfa:g} is not between 0 and 0.1", "--pfa", "give a rate such as 1e-6"
            )


class _IntensityReader:
    """Reads windows of a scene as intensity (H, W, B); pixels without data are 0."""

    def __init__(self, scene: RasterScene, contract: Contract, declaration: Declaration) -> None:
        indices = check_scene_bands(scene, contract, declaration)
        count = len(contract.used_bands)
        self.unit, _ = contract.check_header(scene.dtype, count, declaration.unit or scene.unit)
        self.reader = SceneReader(scene, indices[:count])

    def __call__(self, window: PixelWindow) -> Pixels:
        pixels = self.reader(window)
        unit = "amplitude" if self.unit in DIGITAL_UNITS else self.unit
        intensity = convert_unit(pixels, unit, "intensity").astype(np.float32)
        return np.where(np.isfinite(intensity) & (pixels != 0), intensity, 0)


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
    side = max(4, round(chip_window.side * sum(chip_window.scale) / 2))
    read = _IntensityReader(scene, contract, declaration)
    try:
        means, looks = _measure(scene, read, progress)
        land = PolygonLandMask(options.land, scene) if options.land else BrightLandMask(means, _CELL, side)
        cfar_window = CfarWindow(side // 2, side)
        threshold = cfar_threshold(options.pfa, looks, cfar_window.cells)
        objects: list[Location] = []
        oversized = land_pixels = 0
        for window in _report_windows(scene, progress, "detecting"):
            inside, too_large, masked = _detect_in_window(window, scene, read, land, cfar_window, threshold)
            objects, oversized, land_pixels = objects + inside, oversized + too_large, land_pixels + masked
    finally:
        read.reader.close()
    ordered = sorted(objects, key=lambda location: (location.row, location.col))
    locations = [
        Location(x.row, x.col, x.box, f"{scene.name}_d{number:06d}", None, x.score)
        for number, x in enumerate(ordered, 1)
    ]
    return SceneLocations(locations, [], _notes(scene, options, looks, threshold, land_pixels, oversized))


def _notes(
    scene: RasterScene, options: CfarOptions, looks: float, threshold: float, land_pixels: int, oversized: int
) -> list[str]:
    name, land_fraction = scene.path.name, land_pixels / (scene.height * scene.width)
    method = f"polygons of {options.land}" if options.land else "brightness, which may be ice or wind; --land is better"
    notes = [
        f"{name}: bright objects by CA-CFAR, which may not be ships: {10 * np.log10(threshold):.1f} dB above their "
        f"surroundings, for {options.pfa:g} false alarms per pixel at {looks:.1f} looks (measured)",
        f"{name}: left out as land: {land_fraction:.1%}, by {method}",
    ]
    return notes + ([f"{name}: left out as larger than a chip: {oversized:,} bright objects"] if oversized else [])


def _detect_in_window(
    window: PixelWindow,
    scene: RasterScene,
    read: _IntensityReader,
    land: LandMask,
    cfar_window: CfarWindow,
    threshold: float,
) -> tuple[list[Location], int, int]:
    """Return the objects with their center in the window, the number of oversized ones, and that of land pixels."""
    margin = cfar_window.outer + cfar_window.guard
    padded = PixelWindow(window.top - margin, window.left - margin, window.bottom + margin, window.right + margin)
    intensity, is_land = read(padded), land(padded)
    ratios = [cfar_contrast(plane, (plane > 0) & ~is_land, cfar_window) for plane in np.moveaxis(intensity, 2, 0)]
    inside, oversized = [], 0
    gap = max(1, 2 * cfar_window.guard // _GAP_DIVISOR)
    for bright in find_bright_objects(np.max(ratios, axis=0), threshold, gap):
        row, col = bright.row + padded.top, bright.col + padded.left
        if not (window.top <= row < window.bottom and window.left <= col < window.right):
            continue
        sides = np.linalg.norm(np.diff(bright.corners[:3], axis=0), axis=1)
        if sides.max() > 2 * cfar_window.guard:
            oversized += 1
            continue
        box = bright.corners + np.array([padded.top, padded.left])
        inside.append(Location(row, col, tuple(box.ravel().tolist()), "", None, round(bright.contrast, 2)))
    return inside, oversized, int(is_land[margin:-margin, margin:-margin].sum())


def _measure(scene: RasterScene, read: _IntensityReader, progress: Progress | None) -> tuple[Floats, float]:
    """Return the mean intensity of each cell, and the equivalent number of looks.

    The mean intensity has shape (R, C) and is NaN without data. The number of looks is the median of mean^2 / variance
    over the cells. It is the number of looks of water if most of the scene is water.
    """
    shape = (-(-scene.height // _CELL), -(-scene.width // _CELL))
    total, squares, count = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for window in _report_windows(scene, progress, "looking for land"):
        plane = read(window)[:, :, 0].astype(np.float64)
        rows, cols = np.arange(window.top, window.bottom) // _CELL, np.arange(window.left, window.right) // _CELL
        cells = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
        for sums, values in ((total, plane), (squares, plane**2), (count, plane > 0)):
            sums[cells] += _sum_cells(np.asarray(values, np.float64), rows, cols)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        looks = mean**2 / (squares / count - mean**2)
    usable = (count >= _CELL**2 / 2) & np.isfinite(looks)
    return mean, float(np.clip(np.median(looks[usable]), 1, 100)) if usable.any() else 1.0


def _sum_cells(values: Floats, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> Floats:
    """Sum values (H, W) over each run of equal row and column numbers; return (r, c)."""
    starts = [np.flatnonzero(np.diff(numbers, prepend=-1)) for numbers in (rows, cols)]
    return np.asarray(np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1))


def _report_windows(scene: RasterScene, progress: Progress | None, label: str) -> Iterator[PixelWindow]:
    windows = list(scene.windows())
    for number, window in enumerate(windows, 1):
        yield window
        if progress:
            progress(number, len(windows), f"{label}, {scene.name}")
