"""Chips in image files, which are read one at a time; the chips of a job."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from rsft.data.imagery import reader
from rsft.data.imagery.chip_spec import ChipSpec
from rsft.data.imagery.contract import Contract
from rsft.errors import DataError
from rsft.scenes.chip_size import (
    MAX_CHIP_SIDE,
    resampling_factors,
    resize_chip,
    resolve_spacing,
)
from rsft.scenes.options import ChipOptions, Declaration
from rsft.types import LONLAT, Names, Pixels, Size, Spacing
from rsft.utils.cell.client import in_cell
from rsft.utils.operating_system import path_to_text
from rsft.utils.registry import Registry

# what opens scenes imports GDAL and PROJ, 35 MB that jobs of PNG files do without
if TYPE_CHECKING:
    from rsft.scenes.georeference import Georeference
    from rsft.scenes.locations import SceneLocations
    from rsft.scenes.raster import RasterScene


# Pillow's names
_FORMATS_WITHOUT_GEOREFERENCE = frozenset({"PNG", "JPEG", "MPO", "BMP", "WEBP"})
_AHEAD_BYTES = 2**23
"""Pixels that are read ahead, in bytes."""


class NoDataError(DataError):
    """A tile has no data. Such tiles are counted, but not listed as rejected."""


class SourceChip(NamedTuple):
    """A chip that a source has read.

    Attributes:
        pixels: (H, W, B), the bands that the contract uses, in order.
        unit: the declared unit; None if it is unknown.
        spacing: pixel spacing in meters along columns and along rows; None if it is
            unknown. Tiles have None as well, because their length is not measured: they
            may have no object in the middle.
        columns: table columns of the chip, among them `chip` and `geometry`.
        counts: what `BatchResult.counts` counts.
    """

    pixels: Pixels
    unit: str | None
    spacing: Spacing | None
    columns: dict[str, Any]
    counts: dict[str, int]


SCENE_FACTOR = 10
"""An image whose side is at least this multiple of the side of a chip is a scene."""


class ChipSource(ABC):
    """Numbered chips. Several threads may read at the same time."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of chips."""

    @abstractmethod
    def read(self, number: int) -> SourceChip:
        """Read a chip by its number from 0, with the bands of the contract.

        Raises:
            NoDataError: the chip is a tile without data.
            DataError: the chip cannot be read, or does not fulfill the contract.
        """

    def read_ahead(self, numbers: Sequence[int]) -> None:  # noqa: B027
        """Prepare the chips that this thread reads next."""

    @abstractmethod
    def location_of(self, number: int) -> tuple[str, int]:
        """Return what the list of rejected chips names for a chip.

        Returns:
            The file and the line, 0 for the whole file.
        """

    def chip_name(self, number: int) -> str | int:
        """Return what a table calls a chip."""
        return self.location_of(number)[0]

    def close(self) -> None:  # noqa: B027
        """Close all files that stay open."""


class ChipTable(ChipSource):
    """A source of chips that are the rows of tables, in place of image files.

    Args:
        files: the tables.
        contract: bands and units of the model.

    Attributes:
        name: suffix of the tables without the dot.
    """

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, files: Sequence[Path], contract: Contract) -> None:
        """Read the tables."""


CHIP_TABLES: Registry[type[ChipTable]] = Registry(
    "table of chips", "rsft.chip_tables", "rsft.inference.predict.chip_files"
)
"""Tables whose rows are chips, by their suffix."""


@dataclass(frozen=True)
class PredictionPlan:
    """The chips of a job before the first one is read.

    Attributes:
        sources: sources of the chips, one per scene.
        scenes: scenes from which chips are cut; empty if the inputs are chips.
        notes: remarks for the reader.
        positions: the locations in each scene.
    """

    sources: Sequence[ChipSource]
    scenes: list[RasterScene] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    positions: list[SceneLocations] = field(default_factory=list)

    @property
    def crs(self) -> str | None:
        """Coordinate system of the geometries; None if no scene has a georeference."""
        if self.scenes and all(scene.georeference is None for scene in self.scenes):
            return None
        return LONLAT


def fit_chip(
    stored: Pixels,
    declaration: Declaration,
    spacing: Spacing | None,
    columns: dict[str, Any],
    contract: ChipSpec,
    options: ChipOptions,
) -> SourceChip:
    """Return a chip with the bands and the pixel spacing of a model.

    Args:
        stored: pixels (H, W, B) with all bands.
        declaration: unit of the pixels and names of their bands, if they are known.
        spacing: pixel spacing in meters; None if it is unknown.
        columns: table columns of the chip.
        contract: bands and pixel spacing of the model.
        options: the user's options: whether to resample.

    Raises:
        DataError: bands or pixel spacing do not match.
    """
    names = declaration.bands
    is_unnamed = bool(contract.assumed_bands(stored.shape[2], names))
    selected = contract.select_bands(stored, names)
    pixels = contract.take_gray(selected)
    is_gray = pixels is not selected
    down, along = resampling_factors(contract, spacing, options)
    if spacing:
        spacing = spacing[0] * down, spacing[1] * along
    height = max(1, round(pixels.shape[0] / down))
    width = max(1, round(pixels.shape[1] / along))
    pixels = resize_chip(pixels, (height, width))
    counts = {"gray": int(is_gray), "unnamed": int(is_unnamed)}
    return SourceChip(pixels, declaration.unit, spacing, columns, counts)


class _Header(NamedTuple):
    """What a file declares: height and width, georeference and names of bands."""

    shape: Size = (0, 0)
    georeference: Georeference | None = None
    bands: Names | None = None


@in_cell
def _read_file(path: Path) -> tuple[_Header, Pixels | None]:
    """Return what a file declares, and its pixels; None for a larger image.

    A call takes as long as a small chip, so both are read in one.
    """
    header = _read_header(path)
    if max(header.shape) > MAX_CHIP_SIDE:
        return header, None
    return header, reader.read_chip(path)


@in_cell
def _read_files(files: Sequence[Path]) -> list[tuple[_Header, Pixels | None] | None]:
    """Return what `_read_file` returns for the first files, until they are large.

    It is None for a file with a fault, which is raised when this file is read alone.
    """
    contents = []
    room = _AHEAD_BYTES
    for path in files:
        content = None
        with suppress(DataError):
            content = _read_file(path)
        contents.append(content)
        if content and content[1] is not None:
            room -= content[1].nbytes
        if room < 0:
            break
    return contents


def _read_header(path: Path) -> _Header:
    """Return what a file declares.

    GDAL takes as long to open a chip as Pillow takes to decode it, so it only opens
    files that may have a georeference or names of bands. The size is 0 if neither can
    open the file: `read_chip` raises the error.
    """
    if not _has_sidecar(path) and not reader.is_tiff(path):
        with suppress(DataError):
            image = reader.read_image_header(path)
            if image.format in _FORMATS_WITHOUT_GEOREFERENCE:
                return _Header(image.size)
    from rsft.data.imagery.band_names import read_band_names
    from rsft.data.imagery.rasters import GDAL_ERRORS, open_raster
    from rsft.scenes import georeference as geo

    with (
        suppress(*GDAL_ERRORS),
        geo.ignore_georeference_warnings(),
        open_raster(str(path)) as file,
    ):
        georeference = None
        if max(file.height, file.width) <= MAX_CHIP_SIDE:
            georeference = geo.read_georeference(file)
        bands = read_band_names(file)
        return _Header((file.height, file.width), georeference, bands)
    return _Header()


def _has_sidecar(path: Path) -> bool:
    """Return whether a file beside an image may have a georeference or names of bands.

    Such files are .aux.xml, and world files: .pgw, .pngw or .wld for .png.
    """
    suffix = path.suffix
    whole = str(path)
    stem = whole.removesuffix(suffix)
    world_files = (f"{suffix[:2]}{suffix[-1:]}w", f"{suffix}w", ".wld")
    names = [f"{whole}.aux.xml", *(f"{stem}{end}" for end in world_files)]
    # twice as fast as pathlib, which takes a tenth of the time of a small chip
    return any(map(os.path.exists, names))


class ChipFiles(ChipSource):
    """A source of chips in image files, in the order given.

    Args:
        files: paths of the chips as texts (a `Path` takes 400 bytes), each with its
            declared unit, bands and pixel spacing.
        contract: bands, units and pixel spacing of the model.
        options: the user's options: pixel spacing, and whether to resample.
    """

    def __init__(
        self,
        files: Mapping[str, Declaration],
        contract: Contract,
        options: ChipOptions,
    ) -> None:
        self.paths = list(files)
        self.declarations = files
        self.contract = contract
        self.options = options
        self._thread = threading.local()

    def __len__(self) -> int:
        return len(self.paths)

    def read_ahead(self, numbers: Sequence[int]) -> None:
        """Read small files in one call, which takes as long as reading one of them."""
        paths = [Path(self.paths[number]) for number in numbers]
        self._thread.contents = {}
        with suppress(DataError):  # the fault of one file, which is then read alone
            contents = _read_files(paths)
            self._thread.contents = dict(zip(numbers, contents, strict=False))

    def read(self, number: int) -> SourceChip:
        path = Path(self.paths[number])
        declaration = self.declarations[self.paths[number]]
        content = getattr(self._thread, "contents", {}).pop(number, None)
        header, stored = content or _read_file(path)
        spacing = self._resolve_spacing(header, declaration)
        self._check_side(path, declaration, header.shape, spacing)
        assert stored is not None
        reader.check_declared_bands(declaration.bands, header.bands, path)
        if header.bands and not declaration.bands:
            declaration = replace(declaration, bands=header.bands)
        columns = {
            "chip": self.chip_name(number),
            "path": path_to_text(path),
            "geometry": _outline(header),
        }
        return fit_chip(
            stored, declaration, spacing, columns, self.contract, self.options
        )

    def _resolve_spacing(
        self, header: _Header, declaration: Declaration
    ) -> Spacing | None:
        """Return the pixel spacing of a chip; None if it is unknown."""
        measured = None
        if header.georeference:
            height, width = header.shape
            measured = header.georeference.spacing_at(height / 2, width / 2)
        spacing = resolve_spacing(measured, self.options)
        if not spacing and declaration.spacing_m is not None:
            return declaration.spacing_m, declaration.spacing_m
        return spacing

    def _check_side(
        self,
        path: Path,
        declaration: Declaration,
        shape: Size,
        spacing: Spacing | None,
    ) -> None:
        """Raise an error if an image is a scene.

        Raises:
            DataError: its side is `SCENE_FACTOR` times that of a chip or more, or above
                `MAX_CHIP_SIDE`.
        """
        side = self._find_side()
        longest = max(shape)
        scale = 1.0
        if self.options.resample_to is not None and spacing:
            scale = self.options.resample_to / min(spacing)
        is_scene = longest >= SCENE_FACTOR * side * scale and not declaration.is_chip
        if not is_scene and longest <= MAX_CHIP_SIDE:
            return
        hint = f"classify it as a scene, with --detect, --grid {side} or --at POSITIONS"
        if longest <= MAX_CHIP_SIDE:
            hint += f"; --size {longest} takes the whole image as one chip"
        raise DataError(
            f"{shape[0]:,} x {shape[1]:,} pixels are a scene, not a chip of {side:,} x"
            f" {side:,}",
            path,
            hint,
        )

    def _find_side(self) -> int:
        """Return the side of a chip in pixels, as the user or the model says."""
        size = self.options.size
        if size and size.pixels is not None:
            return size.pixels
        return self.contract.crop or self.contract.side or self.contract.size

    def chip_name(self, number: int) -> str:
        return path_to_text(Path(self.paths[number]).name)

    def location_of(self, number: int) -> tuple[str, int]:
        return path_to_text(self.paths[number]), 0


def open_chips(
    files: Mapping[str, Declaration],
    contract: Contract,
    options: ChipOptions,
) -> ChipSource:
    """Return the chips of files: image files, or the rows of tables.

    Args:
        files: paths of the files, as for `ChipFiles`.
        contract: bands, units and pixel spacing of the model.
        options: the user's options, for image files.

    Returns:
        A source, whose chips are in the order of the files.

    Raises:
        RequestError: a table cannot be read.
    """
    for suffix in CHIP_TABLES:
        if all(name.lower().endswith(f".{suffix}") for name in files):
            return CHIP_TABLES[suffix]([Path(name) for name in files], contract)
    return ChipFiles(files, contract, options)


def _outline(header: _Header) -> Any:
    """Return the outline of a chip as a polygon; None without a georeference."""
    if not header.georeference:
        return None
    from rsft.scenes.georeference import rectangle_corners

    corners = rectangle_corners(0, 0, *header.shape)[None]
    return header.georeference.outline_polygons(corners)[0]
