"""Locate chips in a scene by a file of positions or a grid of tiles, and compute the windows around the locations."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import shapely
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

from rsft.data.annotations.base import (
    AT,
    FAULT,
    FRACTION,
    IMAGE,
    PIXEL,
    SCORE,
    Annotations,
    check_vessels,
)
from rsft.data.annotations.images import find_annotations
from rsft.data.imagery.chip_spec import ChipSpec
from rsft.data.imagery.reader import check_declared_bands
from rsft.errors import DataError, RequestError
from rsft.scenes.chip_size import (
    MAX_CHIP_SIDE,
    resampling_factors,
    resize_chip,
    resolve_spacing,
)
from rsft.scenes.georeference import rectangle_corners
from rsft.scenes.options import ChipOptions, Declaration
from rsft.scenes.raster import PixelWindow, RasterScene
from rsft.scenes.reader import SceneReader
from rsft.types import LONLAT, Floats, Pixels, Rejection

MAX_CHIP_VALUES = 2**28
"""Largest number of values of a window: pixels times bands, 1 GiB as float32."""
_MAX_COORDINATE = 1e9
"""Rows and columns of a position are below it: GEOS finds no rectangle around much
larger numbers."""

_NUDGE = (
    1e-3  # pixels; larger than the rounding error of a conversion to degrees and back
)

_ToPixels = Callable[[Floats], Floats]
"""A function from x and y (K, 2) to row and column (K, 2)."""


@dataclass(frozen=True)
class Location:
    """A location in a scene in pixel coordinates; (0, 0) is the upper left corner of the first pixel.

    Attributes:
        row: row of the center.
        col: column of the center.
        box: corners r1 c1 ... r4 c4 of the rectangle around the object, which may be
            rotated; None for a point.
        name: name of the chip, unique in the scene.
        source_row: number of the position in its file, which is unique there: feature
            id, annotation id or line if these are unique whole numbers, else the row
            from 1; None if the location does not come from a file.
        score: score of the detector; None without a score.
        extent: top, left, bottom and right of the annotated corners; None takes those
            of the box.
    """

    row: float
    col: float
    box: tuple[float, ...] | None
    name: str
    source_row: int | None = None
    score: float | None = None
    extent: tuple[float, float, float, float] | None = None


@dataclass
class SceneLocations:
    """The locations in a scene.

    Attributes:
        locations: the locations.
        rejected: rows of the file that cannot be used.
        notes: remarks for the reader.
        attributes: identity (column `at`) and attributes of the locations of a file,
            indexed by `source_row`; None for locations that do not come from a file.
        outside: `source_row` of the positions outside of the scene, which are not among
            the locations.
        are_boxes: whether the locations have boxes.
        file: the file of the positions.
        crs: coordinate system of the file; "" for locations that do not come from a
            file.
        bounds: smallest x and y, and largest x and y, of the positions in the file; NaN
            without positions.
        skipped: number of objects and rows that were left out on purpose, by reason.
    """

    locations: list[Location] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    attributes: pd.DataFrame | None = None
    outside: list[int | None] = field(default_factory=list)
    are_boxes: bool = False
    file: Path = Path()
    crs: str = ""
    bounds: tuple[float, float, float, float] = (math.nan, math.nan, math.nan, math.nan)
    skipped: Counter[str] = field(default_factory=Counter)

    def add_attributes(self, columns: pd.DataFrame) -> None:
        """Add columns with one row per location, in the order of the locations."""
        if self.attributes is None:
            missing = pd.Series([None] * len(columns), dtype="Int64")
            self.attributes = pd.DataFrame({AT: missing})
        columns = columns.set_axis(self.attributes.index)
        self.attributes = pd.concat([self.attributes, columns], axis=1)

    def describe_ranges(self, scene: RasterScene) -> str:
        """Return where the positions of the file lie, and where the scene lies, in the same coordinates if possible."""
        positions = self.bounds
        area = (0.0, 0.0, float(scene.width), float(scene.height))
        names = ("col", "row")
        scene_crs = PIXEL
        if scene.georeference is not None and self.crs not in (PIXEL, FRACTION):
            to_lonlat = Transformer.from_crs(
                CRS.from_user_input(self.crs), LONLAT, always_xy=True
            )
            left, bottom, right, top = positions
            positions = to_lonlat.transform_bounds(left, bottom, right, top)
            outline = rectangle_corners(0, 0, scene.height, scene.width)
            lon, lat = scene.georeference.pixels_to_lonlat(*outline.T).T
            area = (
                float(lon.min()),
                float(lat.min()),
                float(lon.max()),
                float(lat.max()),
            )
            names = ("lon", "lat")
            scene_crs = scene.georeference.description
        labels = (
            f"the positions ({self.crs}) lie at {_describe_bounds(names, positions)}"
        )
        return (
            f"{labels}, {scene.path.name} ({scene_crs}) at"
            f" {_describe_bounds(names, area)}"
        )


def read_positions(
    path: Path,
    scene: RasterScene,
    crs: str | None = None,
    layer: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> SceneLocations:
    """Read the positions that lie in a scene.

    A note counts the others: one file may cover several scenes.

    Args:
        path: a file in one of the formats of `rsft.data.annotations`, or a folder with
            one file per scene.
        scene: the scene. Of a file with several images, that with the name of the scene
            is read.
        crs: coordinate system of the positions, if their file does not name one:
            EPSG:32633, or "pixel".
        layer: name of the layer, if the file has several layers.
        columns: names of columns by their role, see `read_annotations`.

    Returns:
        The locations in the scene with their attributes, and the rows that cannot be
        used.

    Raises:
        RequestError: the file does not exist, is empty or has an unknown format, its
            coordinate system is missing or unusable, its coordinates are exchanged, or
            its rows are the messages of vessels (AIS) rather than one position per
            vessel.
        DataError: the file has images, but none with the name of the scene.
    """
    folder = (scene.path.path or Path()).absolute().parent
    positions = find_annotations(path, folder / scene.path.name, layer, columns)
    path = positions.path
    crs = positions.crs or crs
    if crs is None:
        hint = (
            "name it: --at-crs EPSG:4326, or --at-crs pixel; rsft prepare scenes: --crs"
        )
        raise RequestError("the positions have no coordinate system", path, hint)
    result = _find_locations(path, positions, scene, crs)
    size = next(
        (positions.sizes[name] for name in positions.images if name in positions.sizes),
        None,
    )
    if len(positions.images) == 1 and size not in (None, (scene.width, scene.height)):
        width, height = size or (0, 0)
        shape = f"{scene.path.name} has {scene.width:,} x {scene.height:,}"
        result.notes.append(
            f"{path.name}: its image has {width:,} x {height:,} pixels, but {shape}:"
            " check the positions"
        )
    inside = [location for location in result.locations if _is_inside(location, scene)]
    total = len(result.locations)
    result.outside = [
        x.source_row for x in result.locations if not _is_inside(x, scene)
    ]
    if result.outside:
        if inside:
            hint = ""
        else:
            hint = (
                "; check the coordinate system of their file:"
                f" {result.describe_ranges(scene)}"
            )
        result.notes.append(
            f"positions outside of {scene.path.name}: {len(result.outside):,} of"
            f" {total:,}{hint}"
        )
    assert result.attributes is not None
    result.locations = inside
    result.attributes = result.attributes.loc[[x.source_row for x in inside]]
    check_vessels(path, result.attributes)
    return result


def _find_locations(
    path: Path, positions: Annotations, scene: RasterScene, crs: str
) -> SceneLocations:
    to_pixels = _pixel_transform(path, scene, crs)
    table = positions.table
    attributes = pd.DataFrame(
        table.drop(columns=[table.geometry.name, SCORE, IMAGE, FAULT])
    )
    result = SceneLocations(
        notes=list(positions.notes), attributes=attributes, file=path
    )
    result.are_boxes = positions.are_boxes
    result.crs = crs
    usable: list[shapely.Geometry] = []
    columns = (table[name] for name in (table.geometry.name, SCORE, FAULT))
    for number, shape, score, fault in zip(table.index.tolist(), *columns, strict=True):
        if not fault and (shape is None or shape.is_empty):
            fault = "no position"
        elif not fault and shape.geom_type not in ("Point", "Polygon", "MultiPolygon"):
            fault = (
                f"{shape.geom_type} geometry, but only points and polygons can be used"
            )
        usable += [] if fault else [shape]
        if fault:
            corners = np.empty((0, 2))
        else:
            corners = to_pixels(shapely.get_coordinates(shape))
        fault = fault or _describe_fault(corners)
        if fault:
            result.rejected.append((str(path), number, fault))
            continue
        (row, col), box, extent = corners[0], None, None
        if len(corners) > 1:  # the smallest rectangle around them, which may be rotated
            rectangle = shapely.minimum_rotated_rectangle(shapely.MultiPoint(corners))
            if rectangle.geom_type != "Polygon":  # all points lie on a line
                rectangle = shapely.box(*corners.min(0), *corners.max(0))
            ends = np.asarray(rectangle.exterior.coords)[:4]
            row, col = (
                (corners.min(axis=0) + corners.max(axis=0)) / 2
                if positions.are_boxes
                else ends.mean(axis=0)
            )
            box = tuple(ends.ravel().tolist())
            extent = (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())
        name = f"{scene.name}_{number:06d}"
        score = None if np.isnan(score) else float(score)
        result.locations.append(
            Location(float(row), float(col), box, name, number, score, extent)
        )
    if usable:
        left, bottom, right, top = shapely.total_bounds(usable).tolist()
        result.bounds = left, bottom, right, top
    if not positions.are_boxes:
        result.are_boxes = bool(result.locations) and all(
            location.box for location in result.locations
        )
        if not any(_is_inside(location, scene) for location in result.locations):
            result.notes += _find_exchange(path, usable, scene, crs, to_pixels)
    return result


def _describe_bounds(
    names: tuple[str, str], bounds: tuple[float, float, float, float]
) -> str:
    left, bottom, right, top = (f"{value:.6g}" for value in bounds)
    return f"{names[0]} {left} to {right}, {names[1]} {bottom} to {top}"


def _describe_fault(corners: Floats) -> str:
    """Return why the corners of a position (K, 2) in pixels cannot be used; "" if they can."""
    if not (np.abs(corners) < _MAX_COORDINATE).all():  # or not finite
        return "the position cannot be transformed to pixels of the scene"
    if len(corners) > 1 and np.ptp(corners, axis=0).min() < _NUDGE:
        return "the box has no area"
    return ""


def _is_inside(location: Location, scene: RasterScene) -> bool:
    return 0 <= location.row < scene.height and 0 <= location.col < scene.width


def _find_exchange(
    path: Path,
    shapes: list[shapely.Geometry],
    scene: RasterScene,
    crs: str,
    to_pixels: _ToPixels,
) -> list[str]:
    """Return a note if some positions lie in the scene once their two coordinates are exchanged.

    Raises:
        RequestError: most positions do.
    """
    pixels = to_pixels(
        shapely.get_coordinates([shape.centroid for shape in shapes])[:, ::-1]
    )
    with np.errstate(invalid="ignore"):
        count = int(
            ((pixels >= 0) & (pixels < (scene.height, scene.width))).all(axis=1).sum()
        )
    if not count:
        return []
    names = "row and col" if crs == PIXEL else "x and y"
    if crs != PIXEL and CRS.from_user_input(crs).is_geographic:
        names = "lon and lat"
    where = (
        f"{count:,} of {len(shapes):,} positions lie in {scene.path.name} if {names}"
        " are exchanged"
    )
    if 2 * count > len(shapes):
        raise RequestError(
            f"{names} are exchanged: no position lies in the scene, but {where}",
            path,
            f"exchange {names} in the file",
        )
    return [f"{where}, and none as they are"]


def _pixel_transform(path: Path, scene: RasterScene, crs: str) -> _ToPixels:
    if crs in (PIXEL, FRACTION):
        if crs == FRACTION:
            scale = (scene.height, scene.width)
        else:
            scale = (1, 1)
        return lambda xy: xy[:, ::-1] * scale
    try:
        to_lonlat = Transformer.from_crs(
            CRS.from_user_input(crs), LONLAT, always_xy=True
        )
    except ProjError as error:  # of the code, or of its operation
        message = f"the coordinate system {crs[:200]} cannot be used"
        raise RequestError(
            message, f"{path} --at-crs", "give a code such as EPSG:32633"
        ) from error
    georeference = scene.georeference
    if georeference is None:
        message = (
            f"the positions have a coordinate system, but {scene.path.name} has no"
            " georeference"
        )
        raise RequestError(
            message,
            path,
            "give positions in pixels: columns row and col, or --at-crs pixel",
        )
    return lambda xy: georeference.lonlat_to_pixels(
        *to_lonlat.transform(xy[:, 0], xy[:, 1])
    )


def tile_locations(
    scene: RasterScene, size: tuple[float, float], stride: tuple[float, float]
) -> SceneLocations:
    """Cover a scene with tiles.

    The last tile of a row or column is moved back so that it ends at the edge.

    Args:
        scene: the scene.
        size: height and width of a tile in pixels of the scene.
        stride: step between tiles, along columns and along rows, in pixels of the
            scene.

    Returns:
        The centers of the tiles, with the tiles as boxes.
    """
    tops, lefts = (
        [*np.arange(0, last, step).tolist(), last]
        for last, step in zip(
            (max(0.0, scene.height - size[0]), max(0.0, scene.width - size[1])),
            stride,
            strict=True,
        )
    )
    height, width = size
    locations = []
    for top, left in product(tops, lefts):
        box = tuple(
            rectangle_corners(top, left, top + height, left + width).ravel().tolist()
        )
        name = f"{scene.name}_r{round(top):05d}_c{round(left):05d}"
        locations.append(Location(top + height / 2, left + width / 2, box, name))
    return SceneLocations(locations, are_boxes=True)


@dataclass(frozen=True)
class ChipWindow:
    """The window of a scene that a chip is cut from, so that a network sees objects at the scale of its training chips.

    Attributes:
        side: size of a chip in chip pixels; None if each chip is as large as its box
            and the margin.
        margin: number of chip pixels around a box.
        scale: scene pixels per chip pixel, along columns and along rows; 1 without
            resampling.
        limits: height and width of the scene, to which a chip along a box is clipped;
            None does not clip it.
    """

    side: int | None
    margin: int
    scale: tuple[float, float]
    limits: tuple[int, int] | None = None

    def chip_size(self, location: Location) -> tuple[int, int]:
        """Return height and width of a chip in chip pixels."""
        if self.side is not None:
            return self.side, self.side
        top, left, bottom, right = self.window_at(location)
        return max(1, round((bottom - top) / self.scale[0])), max(
            1, round((right - left) / self.scale[1])
        )

    def window_at(self, location: Location) -> PixelWindow:
        """Return the window of the scene for a chip: whole pixels, around the box or with the location in the middle.

        A window with the location in the middle may extend beyond the edge of the
        scene.
        """
        if self.side is None:
            return self._window_around(location)
        sizes = zip(self.chip_size(location), self.scale, strict=True)
        height, width = (max(1, round(size * scale)) for size, scale in sizes)
        top = math.floor(location.row + _NUDGE) - height // 2
        left = math.floor(location.col + _NUDGE) - width // 2
        return PixelWindow(top, left, top + height, left + width)

    def _window_around(self, location: Location) -> PixelWindow:
        """Return the window around a box; fractions of pixels are rounded outwards."""
        assert location.box is not None
        corners = np.array(location.extent or location.box).reshape(-1, 2)
        margin = self.margin * np.array(self.scale)
        first = np.floor(corners.min(axis=0) - margin + _NUDGE)
        last = np.maximum(np.ceil(corners.max(axis=0) + margin - _NUDGE), first + 1)
        if self.limits is not None:
            first = np.clip(first, 0, np.subtract(self.limits, 1))
            last = np.clip(last, 1, self.limits)
        return PixelWindow(*(int(value) for value in (*first, *last)))

    def find_fault(self, location: Location, bands: int) -> str:
        """Return the limit that a chip of a scene with this number of bands exceeds, or ""."""
        chip = self.chip_size(location)
        top, left, bottom, right = self.window_at(location)
        window = bottom - top, right - left
        if max(*chip, *window) > MAX_CHIP_SIDE:
            height, width = max(chip, window)
            return (
                f"the chip has {height:,} x {width:,} pixels; the limit is"
                f" {MAX_CHIP_SIDE:,} pixels a side"
            )
        if bands * max(chip[0] * chip[1], window[0] * window[1]) > MAX_CHIP_VALUES:
            return f"the chip has more than {MAX_CHIP_VALUES:,} values in {bands} bands"
        return ""


def make_chip_window(
    contract: ChipSpec, scene: RasterScene, options: ChipOptions, has_points: bool
) -> ChipWindow:
    """Decide how large the chips of a scene are.

    The default size is the contract's crop.

    Args:
        contract: size and pixel spacing of the training chips.
        scene: the scene.
        options: the user's options.
        has_points: whether any location is a point without a box.

    Returns:
        The window, with the scale of the pixels.

    Raises:
        RequestError: the size is unknown or smaller than the crop, or a point has a
            margin.
        DataError: the pixel spacing differs from that of the training chips.
    """
    if options.margin is not None:
        side = None
    else:
        side = options.side or contract.crop or contract.side
    if options.margin is not None and has_points:
        message = "--margin needs boxes, but some positions are points"
        raise RequestError(message, "--margin", "give --side instead")
    _check_side(contract, options)
    if side is not None and contract.crop is not None and side < contract.crop:
        message = (
            f"chips of {side} pixels are too small: the model takes {contract.crop}"
            " pixels"
        )
        raise RequestError(message, "--side", f"give --side {contract.crop}, or more")
    for flag, value in (("--side or --grid", side), ("--margin", options.margin)):
        if value is not None and not 0 <= value <= MAX_CHIP_SIDE:
            message = (
                f"{value:,} pixels are too many: a chip has at most {MAX_CHIP_SIDE:,} x"
                f" {MAX_CHIP_SIDE:,}"
            )
            raise RequestError(message, flag, f"give {MAX_CHIP_SIDE} or less")
    try:
        scale = resampling_factors(
            contract, resolve_spacing(scene.spacing, options), options
        )
    except DataError as error:
        raise DataError(error.message, scene.path, error.hint) from error
    return ChipWindow(side, options.margin or 0, scale, (scene.height, scene.width))


def _check_side(contract: ChipSpec, options: ChipOptions) -> None:
    """Raise an error if nothing says how large a chip is.

    Raises:
        RequestError: neither the user nor the contract does.
    """
    if options.margin is None and not (options.side or contract.crop or contract.side):
        raise RequestError(
            (
                "the model was trained on whole chips of no fixed size, so the size of a"
                " chip is not known"
            ),
            "--side",
            (
                "give the chip size in pixels: --side 64, or --margin 0 to cut chips along"
                " boxes"
            ),
        )


class CutChip(NamedTuple):
    """A chip that was cut from a scene.

    Attributes:
        pixels: the chip (H, W, B).
        clipped: number of values that the calibration raised to its smallest value.
        values: number of values that were read for the chip.
    """

    pixels: Pixels
    clipped: int
    values: int


def cut_chip(reader: SceneReader, window: ChipWindow, location: Location) -> CutChip:
    """Cut a chip from a scene: the one way in which rsft does it, for training and for prediction.

    Args:
        reader: reads the scene.
        window: size of the chip.
        location: its center or box.

    Returns:
        The chip, resized to the size that the window gives it.

    Raises:
        DataError: the chip is too large, or the scene cannot be read.
    """
    fault = window.find_fault(location, reader.scene.count)
    if fault:
        raise DataError(
            fault,
            reader.scene.path,
            "leave out this position, or give a smaller --side or --margin",
        )
    pixels, clipped = reader.read(window.window_at(location))
    return CutChip(
        resize_chip(pixels, window.chip_size(location)), clipped, pixels.size
    )


def check_scene_bands(
    scene: RasterScene,
    contract: ChipSpec,
    declaration: Declaration,
    options: ChipOptions | None = None,
) -> list[int]:
    """Check that a scene has the bands and the unit that the model takes, and report all faults together.

    Args:
        scene: the scene.
        contract: bands and units of the model.
        declaration: bands and unit of the scene, if the file does not name them.
        options: the user's options for chips, to check their pixel spacing and their
            size as well.

    Returns:
        Indices of the bands to read, in the order of `ChipSpec.used_bands`.

    Raises:
        DataError: bands, unit or spacing do not fulfill the contract, or the file
            contradicts the declared names.
    """
    names = declaration.bands or scene.bands
    used = contract.used_bands
    indices = None
    errors: list[DataError | RequestError] = []
    with _collect(errors):
        check_declared_bands(declaration.bands, scene.bands, scene.path)
        try:
            indices = contract.band_indices(scene.count, names)
        except DataError as error:
            if scene.product.kind == "raster" or scene.bands is None:
                raise
            actual = ", ".join(scene.bands)
            hint = (
                f"the product states its bands: give one with {', '.join(used)}, or a"
                f" model for {actual}"
            )
            raise DataError(error.message, hint=hint) from error
    with _collect(errors):
        may_be_gray = (
            scene.count == 3 and names is None and len(used) == 1
        )  # the pixels show this later
        if may_be_gray or indices is None:
            count = len(used)
        else:
            count = len(indices)
        contract.check_header(scene.dtype, count, declaration.unit or scene.unit)
    if options is not None:
        with _collect(errors):
            resampling_factors(
                contract, resolve_spacing(scene.spacing, options), options
            )
        with _collect(errors):
            _check_side(contract, options)
    if len(errors) == 1 and isinstance(errors[0], RequestError):
        raise errors[0]
    if errors or indices is None:
        message, hint = (
            "; ".join(texts)
            for texts in zip(*((x.message, x.hint) for x in errors), strict=True)
        )
        raise DataError(message, scene.path, hint) from errors[0]
    return indices


@contextmanager
def _collect(errors: list[DataError | RequestError]) -> Iterator[None]:
    """Keep an error that is raised in the block."""
    try:
        yield
    except (DataError, RequestError) as error:
        errors.append(error)
