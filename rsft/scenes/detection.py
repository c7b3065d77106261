"""Detect bright objects on dark water, window by window.

This is a convenience, not a ship detector. The scene is read twice. The first pass
measures the water and finds land. The second one finds objects, see `rsft.scenes.cfar`.
It reads a copy of a scene on a server.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from rsft.data.imagery.bands import POLARIZATIONS
from rsft.data.imagery.chip_spec import ChipSpec
from rsft.data.imagery.scene_uri import SceneUri, file_state
from rsft.data.imagery.units import DIGITAL_UNITS, check_unit, convert_unit
from rsft.errors import DataError, RequestError
from rsft.scenes.cfar import (
    BrightObject,
    CfarWindow,
    Plane32,
    cfar_threshold,
    find_bright_objects,
    find_bright_pixels,
    looks_by_block,
    measure_cells,
)
from rsft.scenes.land import BrightLandMask, PolygonLandMask, open_land_polygons
from rsft.scenes.locations import Location, SceneLocations
from rsft.scenes.options import UNDECLARED, Declaration
from rsft.scenes.query import CfarOptions
from rsft.scenes.raster import PixelWindow, RasterScene, declare_unit
from rsft.scenes.reader import CopyingReader, SceneReader
from rsft.scenes.recorded import find_once
from rsft.scenes.requirements import check_scene
from rsft.scenes.windows import ChipWindow
from rsft.types import Floats, Mask, Pixels, Progress
from rsft.utils.journal import Journal, journal_path
from rsft.utils.progress import track
from rsft.version import __version__

_GAP_DIVISOR = 10  # pixels of an object may be apart by the chip's side divided by this
# longest object, as a multiple of the chip's side: a chip with most of a ship is
# classified
_MAX_SIDES = 1.5
# smallest share of a chip's area that an object covers; chosen on 7 images of SSDD
_MIN_AREA_SHARE = 1 / 800
_LARGEST_SHIP = 500.0  # meters
_SMALLEST_LAND = 1000.0  # meters, side of a square of its area


def detect_bright_objects(
    scene: RasterScene,
    options: CfarOptions,
    chip_window: ChipWindow,
    declaration: Declaration,
    spec: ChipSpec,
    progress: Progress | None,
    land_side: int | None = None,
) -> SceneLocations:
    """Detect objects that are brighter than the water around them.

    They are not longer than one and a half chips. The surroundings of a pixel lie
    between two squares around it, with sides of one and two chips, so that an object of
    the size of a chip does not reach the surroundings of its middle. For chips that are
    longer than two of the largest ships, the size of `ship_window` takes the place of
    that of a chip.

    Args:
        scene: the scene.
        options: false alarm rate and land.
        chip_window: size of a chip.
        declaration: bands and unit of the scene.
        spec: bands and units of the chips.
        progress: called with numbers of windows.
        land_side: a large bright region is land if its area is at least that of a
            square with this side, in pixels; None takes four chips.

    Returns:
        The objects, in order from the top left.

    Raises:
        RequestError: a band is not SAR, or the polygons of land cannot be used.
        DataError: the scene cannot be read, or its values cannot be in its unit.
    """
    if not set(spec.used_bands) <= {*POLARIZATIONS, "gray"}:
        raise RequestError(
            "bright objects are only detected in SAR, but the model takes"
            f" {', '.join(spec.used_bands)}",
            "--detect",
            "give --at or --grid; a model of SAR images that are stored as RGB is"
            " trained on chips that were prepared with one band, such as --bands VV",
        )
    assert chip_window.side is not None
    side = max(4, round(chip_window.side * sum(chip_window.scale) / 2))
    if scene.spacing and side * np.mean(scene.spacing) > 2 * _LARGEST_SHIP:
        side = ship_window(scene).side or side
    detector = _Detector(scene, options, side, spec, declaration, land_side or 4 * side)
    with closing(detector.reader):
        windows = _report_windows(scene, progress, "measuring the water")
        detector.measure_water(windows)
        for window in _report_windows(scene, progress, "detecting"):
            detector.detect(window)
    ordered = sorted(detector.objects, key=lambda bright: (bright.row, bright.col))
    locations = []
    for number, bright in enumerate(ordered, 1):
        box = tuple(bright.corners.ravel().tolist())
        name = f"{scene.name}_d{number:06d}"
        score = round(bright.contrast, 2)
        locations.append(Location(bright.row, bright.col, box, name, score=score))
    notes = _describe_detection(detector, len(locations))
    return SceneLocations(
        locations, notes=[f"{scene.path.name}: {note}" for note in notes]
    )


def detect_objects(
    scene: RasterScene,
    options: CfarOptions,
    declaration: Declaration,
    progress: Progress | None,
) -> SceneLocations:
    """Detect bright objects up to the size of the largest ships, without a model.

    Args:
        scene: the scene. All its polarizations are used.
        options: options of the detector.
        declaration: unit, bands and pixel spacing of the scene, if the file does not
            state them.
        progress: called with numbers of windows.

    Raises:
        RequestError: the declared unit contradicts the file, or the pixel spacing is
            unknown.
        DataError: the scene cannot be read, or its pixels have no unit.
    """
    if declaration.unit:
        scene = declare_unit(scene, declaration.unit)
    else:  # a calibration would only take time
        scene = scene.in_unit(scene.product.unit)
    declaration, spec, notes = describe_scene_pixels(scene, declaration)
    window = ship_window(scene, declaration)
    land_side = round(_SMALLEST_LAND / _pixel_meters(scene, declaration))
    result = detect_bright_objects(
        scene, options, window, declaration, spec, progress, land_side
    )
    result.notes = notes + result.notes
    return result


@contextmanager
def recorded_detector(
    output: Path,
    options: CfarOptions,
    declaration: Declaration,
    progress: Progress | None,
) -> Iterator[Callable[[RasterScene], SceneLocations]]:
    """Yield a function that detects the objects of a scene and records them.

    The records lie beside the output until the block ends without an error, so that a
    killed job does not detect again.

    Args:
        output: file or folder that the job writes.
        options: options of the detector.
        declaration: unit, bands and pixel spacing of the scenes, if their files do not
            state them.
        progress: called with numbers of windows.

    Yields:
        The function.
    """
    land = file_state(options.land) if isinstance(options.land, Path) else None
    key = repr((__version__, declaration, options, land))
    journal = Journal(journal_path(output), key)

    def detect(scene: RasterScene) -> SceneLocations:
        name = f"detected in {scene.path}, {scene.path.state()}"
        find = partial(detect_objects, scene, options, declaration, progress)
        return find_once(journal, name, find)

    is_finished = False
    try:
        yield detect
        is_finished = True
    finally:
        journal.close(is_finished)


def describe_scene_pixels(
    scene: RasterScene, declaration: Declaration
) -> tuple[Declaration, ChipSpec, list[str]]:
    """Return what the pixels of a scene are, without a model.

    Returns:
        The declaration with the unit that is assumed; the polarizations of the scene,
        or all its bands, in this unit; and notes on what was assumed.

    Raises:
        RequestError: the scene does not name its bands.
    """
    names = declaration.bands or scene.bands or ("gray",)
    # three equal bands may be one gray band
    if names == ("gray",) and scene.count not in (1, 3):
        raise RequestError(
            f"the scene has {scene.count} bands without names",
            scene.path,
            "name them in the order of the file: --bands VV,VH",
        )
    bands = tuple(name for name in names if name in POLARIZATIONS) or names
    unit = scene.unit
    notes = []
    if unit is None and scene.dtype in DIGITAL_UNITS:
        unit = scene.dtype
    elif unit is None:
        unit = "sigma0"
        declaration = replace(declaration, unit=unit)
        notes.append(
            f"{scene.path.name} declares no unit: its values are taken as linear, as in"
            " sigma0; else give --unit db"
        )
    spec = ChipSpec(units=(unit,), bands=bands, owner="the detection")
    return declaration, spec, notes


def ship_window(
    scene: RasterScene, declaration: Declaration = UNDECLARED
) -> ChipWindow:
    """Return the size of chips that show the largest ships.

    Args:
        scene: the scene.
        declaration: pixel spacing of a scene without a georeference.

    Raises:
        RequestError: the pixel spacing is unknown.
    """
    return ChipWindow(max(16, round(_LARGEST_SHIP / _pixel_meters(scene, declaration))))


def _pixel_meters(scene: RasterScene, declaration: Declaration) -> float:
    spacing = scene.spacing or declaration.spacing_m
    if not spacing:
        raise RequestError(
            "the pixel spacing of the scene is not known",
            scene.path,
            "give --spacing in meters",
        )
    return float(np.mean(spacing))


def _describe_detection(detector: _Detector, count: int) -> list[str]:
    notes = [
        f"{count:,} bright objects",
        f"CA-CFAR with a false alarm rate of {detector.options.pfa:g} per pixel."
        " Detected objects are not always ships.",
    ]
    if not detector.land:
        notes.append("land was searched too (--land none)")
    else:
        share = 100 * detector.land_pixels / math.prod(detector.scene.size)
        notes.append(
            f"{share:.1f} % of the scene is land ({detector.land.description}),"
            " which was not searched"
        )
    if detector.oversized:
        notes.append(
            f"left out as longer than {_MAX_SIDES:g} chips: {detector.oversized:,}"
            " bright objects"
        )
    return notes


def _report_windows(
    scene: RasterScene, progress: Progress | None, label: str
) -> Iterator[PixelWindow]:
    windows = list(scene.windows())
    return track(windows, len(windows), progress, f"{label}, {scene.name}")


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
    """

    thresholds: Floats

    def __init__(
        self,
        scene: RasterScene,
        options: CfarOptions,
        side: int,
        spec: ChipSpec,
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
        indices = check_scene(scene, spec, declaration)
        bands = len(spec.used_bands)
        unit, _ = spec.check_header(scene.dtype, bands, declaration.unit or scene.unit)
        self.unit = "amplitude" if unit in DIGITAL_UNITS else unit
        is_remote = any(SceneUri(file).is_remote for file in scene.files)
        read = CopyingReader if is_remote else SceneReader
        self.reader = read(scene, indices[:bands])
        self.objects: list[BrightObject] = []
        self.oversized = 0
        self.land_pixels = 0

    def to_intensity(self, pixels: Pixels) -> Pixels:
        """Return the intensity of pixels (H, W, B); pixels without data are 0."""
        intensity = convert_unit(pixels, self.unit, "intensity").astype(np.float32)
        return np.where(np.isfinite(intensity) & (pixels != 0), intensity, 0)

    def measure_water(self, windows: Iterable[PixelWindow]) -> None:
        """Measure the looks of each block, and set the thresholds.

        Without polygons, find bright land.

        Raises:
            DataError: the values cannot be in the unit of the scene.
        """
        land = self.land
        medians = []  # of the windows

        def read_water(window: PixelWindow) -> Pixels:
            pixels = self.reader(window)
            sample = pixels[::8, ::8]
            sample = sample[np.isfinite(sample) & (sample != 0)]
            if sample.size:
                medians.append(float(np.median(sample)))
            intensity = self.to_intensity(pixels)
            if not land:
                return intensity
            return np.where(land(window)[:, :, None], 0, intensity)

        bands = len(self.reader.indices)
        size = self.scene.size
        mean, cell_looks = measure_cells(size, bands, windows, read_water)
        if medians:
            self._check_unit(float(np.median(medians)))
        if not land and self.options.land != "none":  # else it was left out before
            self.land = BrightLandMask(mean[0], self.land_side)
            cell_looks = np.where(self.land.mask, np.nan, cell_looks)
        looks = np.stack([looks_by_block(plane) for plane in cell_looks])
        self.thresholds = cfar_threshold(self.options.pfa, looks, self.window.cells)

    def _check_unit(self, median: float) -> None:
        """Check the median: without their noise, single pixels may be below 0."""
        try:
            check_unit(np.array([median], np.float32), self.unit)
        except DataError as error:
            raise DataError(
                f"the median of the pixels has {error.message}",
                self.scene.path,
                error.hint,
            ) from error

    def detect(self, window: PixelWindow) -> None:
        """Add the objects with their center in the window."""
        margin = self.window.outer + self.window.guard
        padded = PixelWindow(
            window.top - margin,
            window.left - margin,
            window.bottom + margin,
            window.right + margin,
        )
        planes = np.moveaxis(self.to_intensity(self.reader(padded)), 2, 0)
        searched = np.ones(planes.shape[1:], bool)
        if self.land:
            searched = ~self.land(padded)
            inside = searched[margin:-margin, margin:-margin]
            self.land_pixels += inside.size - int(inside.sum())
        objects = self._find(planes, padded, window, searched)
        side = 2 * self.window.guard
        small = [x for x in objects if x.sides.max() <= _MAX_SIDES * side]
        self.oversized += len(objects) - len(small)
        self.objects += small

    def _find(
        self, planes: Plane32, padded: PixelWindow, window: PixelWindow, searched: Mask
    ) -> list[BrightObject]:
        """Return the objects with their center in a window that any band shows.

        Args:
            planes: intensity (B, H, W) of the padded window.
            padded: the window with its surroundings.
            window: the window.
            searched: (H, W), which pixels are searched.

        Returns:
            The objects, in pixels of the scene.
        """
        pixels = find_bright_pixels(
            planes, searched, self.thresholds, padded, self.window
        )
        side = 2 * self.window.guard
        gap = max(1, side // _GAP_DIVISOR)
        origin = np.array([padded.top, padded.left])
        objects = []
        for x in find_bright_objects(pixels, searched.shape, gap):
            row = x.row + padded.top
            col = x.col + padded.left
            is_inside = window.top <= row < window.bottom
            is_inside &= window.left <= col < window.right
            if is_inside and x.sides.prod() >= _MIN_AREA_SHARE * side**2:
                objects.append(BrightObject(row, col, x.corners + origin, x.contrast))
        return objects
