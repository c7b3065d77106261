"""Read chips from image files.

The interface of chip sources, which read numbered chips one at a time.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rasterio.errors import NotGeoreferencedWarning, RasterioError
from shapely.geometry.base import BaseGeometry

from rsft.data.imagery.band_names import check_declared_bands, read_band_names
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.open_raster import open_raster
from rsft.data.imagery.reader import open_image, read_chip
from rsft.errors import DataError
from rsft.inference.inputs.discovery import Declaration
from rsft.inference.scenes.chip_window import (
    MAX_CHIP_SIDE,
    ChipOptions,
    resampling_factors,
    resize_chip,
    resolve_spacing,
)
from rsft.inference.scenes.georeference import Georeference, read_georeference, rectangle_corners
from rsft.types import Pixels


class NoDataError(DataError):
    """A tile has no data. Such tiles are counted, but not listed as rejected."""


class SourceChip(NamedTuple):
    """A chip that a source has read.

    Attributes:
        pixels: (H, W, B), the bands that the contract uses, in order.
        unit: the declared unit; None if it is unknown.
        spacing: pixel spacing in meters along columns and along rows; None if it is unknown. Tiles have None as well,
            because their length is not measured: they may have no object in the middle.
        columns: table columns of the chip, among them `chip` and `geometry`.
        is_gray: whether the chip was stored with three equal bands, of which `pixels` has one.
        clipped: number of values below the thermal noise, which the calibration raised to its smallest value.
        values: number of values that were read for the chip.
    """

    pixels: Pixels
    unit: str | None
    spacing: tuple[float, float] | None
    columns: dict[str, Any]
    is_gray: bool
    clipped: int = 0
    values: int = 0


class ChipSource(Protocol):
    """Numbered chips. Several threads may read at the same time."""

    def __len__(self) -> int:
        """Return the number of chips."""

    def read(self, number: int) -> SourceChip:
        """Read a chip.

        Args:
            number: number of the chip, from 0.

        Returns:
            The chip.

        Raises:
            NoDataError: the chip is a tile without data.
            DataError: the chip cannot be read, or does not fulfill the contract.
        """

    def location_of(self, number: int) -> tuple[str, int]:
        """Return the file and the line (0 for the whole file) that the list of rejected chips names for a chip.

        Args:
            number: number of the chip.

        Returns:
            File and line.
        """

    def close(self) -> None:
        """Close all files."""


def collapse_gray_rgb(pixels: Pixels, contract: Contract) -> tuple[Pixels, bool]:
    """Reduce a gray chip that was stored as RGB to one band, if the model takes one band.

    Args:
        pixels: (H, W, B).
        contract: bands of the model.

    Returns:
        Pixels (H, W, 1) and True for such a chip, else the unchanged pixels and False.
    """
    is_gray = pixels.shape[2] == 3 and len(contract.used_bands) == 1 and bool((pixels == pixels[:, :, :1]).all())
    return (pixels[:, :, :1] if is_gray else pixels), is_gray


def path_to_text(path: object) -> str:
    """Return a path as text that every file format can store, even if its name is not UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


_FORMATS_WITHOUT_GEOREFERENCE = frozenset({"PNG", "JPEG", "MPO", "BMP", "WEBP"})  # Pillow's names
Size = tuple[int, int]


class _ChipHeader(NamedTuple):
    """What a file declares; None if it does not.

    Attributes:
        outline: outline in degrees.
        spacing: pixel spacing in meters, along columns and along rows.
        bands: names of the bands.
    """

    outline: BaseGeometry | None = None
    spacing: tuple[float, float] | None = None
    bands: tuple[str, ...] | None = None


class ChipFiles:
    """A source of chips in image files, in the order given.

    Args:
        files: paths of the chips, each with its declared unit, bands and pixel spacing.
        contract: bands, units and pixel spacing of the model.
        options: the user's options: pixel spacing, and whether to resample.
    """

    def __init__(self, files: Mapping[Path, Declaration], contract: Contract, options: ChipOptions) -> None:
        self.paths, self.declarations = list(files), dict(files)
        self.contract, self.options = contract, options
        self.shared_stems: dict[Path, set[str]] = {}  # folder -> stems that several of its files have

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, number: int) -> SourceChip:
        """Read a chip, see `ChipSource.read`.

        Args:
            number: number of the chip, from 0.

        Returns:
            The chip, resampled if `options.resample_to` is set.
        """
        path = self.paths[number]
        declaration = self.declarations[path]
        outline, spacing, bands = self._read_header(path)
        check_declared_bands(declaration.bands, bands, path)
        pixels = self.contract.select_bands(read_chip(path), declaration.bands or bands)
        pixels, is_gray = collapse_gray_rgb(pixels, self.contract)
        spacing = resolve_spacing(spacing, self.options) or _square(declaration.spacing_m)
        factors = resampling_factors(self.contract, spacing, self.options)
        size = [max(1, round(side / factor)) for side, factor in zip(pixels.shape[:2], factors, strict=True)]
        if spacing is not None:
            spacing = spacing[0] * factors[0], spacing[1] * factors[1]
        columns = {"chip": path_to_text(path.name), "path": path_to_text(path), "geometry": outline}
        return SourceChip(resize_chip(pixels, (size[0], size[1])), declaration.unit, spacing, columns, is_gray)

    def name(self, number: int) -> str:
        """Return the file name of a chip."""
        return path_to_text(self.paths[number].name)

    def location_of(self, number: int) -> tuple[str, int]:
        """Return the path of a chip and 0, see `ChipSource.location_of`.

        Args:
            number: number of the chip.

        Returns:
            Path and line.
        """
        return path_to_text(self.paths[number]), 0

    def close(self) -> None:
        """Do nothing: files are only open while they are read."""

    def _read_header(self, path: Path) -> _ChipHeader:
        """Return what a file declares about its pixels.

        GDAL takes as long to open a chip as Pillow takes to decode it, so it only opens files that may have a
        georeference or names of bands.

        Raises:
            DataError: the image is larger than a chip may be.
        """
        size, georeference, bands = None if self._may_have_sidecar(path) else _read_size(path), None, None
        if size is None:
            header = _open_header(path)
            if header is None:
                return _ChipHeader()
            size, georeference, bands = header
        if max(size) > MAX_CHIP_SIDE:
            hint = "say where to cut chips: --at ships.gpkg, --grid 512 or --detect"
            raise DataError(f"{size[0]:,} x {size[1]:,} pixels are a scene, not a chip; {hint}", path, hint)
        if georeference is None:
            return _ChipHeader(bands=bands)
        outline = georeference.outline_polygons(rectangle_corners(0, 0, *size)[None])[0]
        return _ChipHeader(outline, georeference.spacing_at(size[0] / 2, size[1] / 2), bands)

    def _may_have_sidecar(self, path: Path) -> bool:
        """Return True if another file has the same stem and may contain a georeference (.aux.xml, .tab).

        Also return True if the folder cannot be listed. Every folder is listed once.
        """
        folder = path.parent
        if folder not in self.shared_stems:
            try:
                stems = Counter(_stem(file.name) for file in folder.iterdir())
            except OSError:
                return True
            self.shared_stems[folder] = {stem for stem, count in stems.items() if count > 1}
        return _stem(path.name) in self.shared_stems[folder]


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _square(spacing_m: float | None) -> tuple[float, float] | None:
    return None if spacing_m is None else (spacing_m, spacing_m)


def _read_size(path: Path) -> Size | None:
    """Return height and width of an image in a format without georeference; None for any other file."""
    try:
        with open_image(path) as image:
            return (image.height, image.width) if image.format in _FORMATS_WITHOUT_GEOREFERENCE else None
    except DataError:  # `read_chip` raises it again
        return None


def _open_header(path: Path) -> tuple[Size, Georeference | None, tuple[str, ...] | None] | None:
    """Read size, georeference and names of bands with GDAL; return None if GDAL cannot open the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with open_raster(str(path)) as file:
                size = file.height, file.width
                return size, read_georeference(file) if max(size) <= MAX_CHIP_SIDE else None, read_band_names(file)
        except (
            RasterioError,
            UnicodeEncodeError,
        ):  # GDAL cannot open file names that are not UTF-8, but `read_chip` may
            return None
