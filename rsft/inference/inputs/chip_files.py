"""Loose chips as a source."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from shapely.geometry.base import BaseGeometry

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.reader import open_image, read_chip
from rsft.errors import DataError
from rsft.inference.inputs.chip_source import Chip, one_band, text
from rsft.inference.inputs.discovery import Declared
from rsft.inference.scenes.chip_window import Wishes, check_scale, resize, spacing_of
from rsft.inference.scenes.georeference import Georeference, georeference, rectangle

MAX_SIDE = 8192
"""Pixels; a longer side is that of a scene, which would be read whole."""

_SAY_NO_PLACE = frozenset({"PNG", "JPEG", "MPO", "BMP", "WEBP"})  # Pillow's names; a file beside them may say it
Size = tuple[int, int]


class LooseChips:
    """Chip files, in order, each with its unit and bands as far as they are declared."""

    def __init__(self, files: Mapping[Path, Declared], contract: Contract, wishes: Wishes) -> None:
        self.paths, self.declared = list(files), dict(files)
        self.contract, self.wishes = contract, wishes
        self.shared: dict[Path, set[str]] = {}  # by folder: stems that several files have

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, number: int) -> Chip:
        """As `Source` says."""
        path = self.paths[number]
        declared = self.declared[path]
        outline, spacing = self._place(path)
        pixels = self.contract.arrange(read_chip(path), declared.bands)
        pixels, grey = one_band(pixels, self.contract)
        spacing = spacing_of(spacing, self.wishes) or _square(declared.spacing_m)
        scale = check_scale(self.contract, spacing, self.wishes)
        size = [max(1, round(side / ratio)) for side, ratio in zip(pixels.shape[:2], scale, strict=True)]
        if spacing is not None:
            spacing = spacing[0] * scale[0], spacing[1] * scale[1]
        facts = {"chip": text(path.name), "path": text(path), "geometry": outline}
        return Chip(resize(pixels, (size[0], size[1])), declared.unit, spacing, facts, grey)

    def name(self, number: int) -> str:
        """The file's name."""
        return text(self.paths[number].name)

    def where(self, number: int) -> tuple[str, int]:
        """The file."""
        return text(self.paths[number]), 0

    def close(self) -> None:
        """Nothing is open."""

    def _place(self, path: Path) -> tuple[BaseGeometry | None, tuple[float, float] | None]:
        """Outline in longitude and latitude, and metres a pixel, of a file that says where it lies.

        GDAL takes as long to open a chip as Pillow to decode it, so it is not asked where there is nothing to find.

        Raises:
            DataError: it is too large for a chip.
        """
        size, found = None if self._has_company(path) else _size_alone(path), None
        if size is None:
            known = _size_and_place(path)
            if known is None:
                return None, None
            size, found = known
        if max(size) > MAX_SIDE:
            fix = "say where to look: --at ships.gpkg, --grid 512 or --detect"
            raise DataError(f"{size[0]:,} x {size[1]:,} pixels are a scene, not a chip; {fix}", path, fix)
        if found is None:
            return None, None
        return found.outlines(rectangle(0, 0, *size)[None])[0], found.spacing(size[0] / 2, size[1] / 2)

    def _has_company(self, path: Path) -> bool:
        """Whether a file beside it has the same stem, and may say where it lies (.aux.xml, .tab); yes if none can tell.

        Folders are listed once.
        """
        folder = path.parent
        if folder not in self.shared:
            try:
                stems = Counter(_stem(file.name) for file in folder.iterdir())
            except OSError:
                return True
            self.shared[folder] = {stem for stem, files in stems.items() if files > 1}
        return _stem(path.name) in self.shared[folder]


def _stem(name: str) -> str:
    return name.partition(".")[0]


def _square(metres: float | None) -> tuple[float, float] | None:
    return None if metres is None else (metres, metres)


def _size_alone(path: Path) -> Size | None:
    """Height and width of an image of a format that says no place; None of another, or of no image."""
    try:
        with open_image(path) as image:
            return (image.height, image.width) if image.format in _SAY_NO_PLACE else None
    except DataError:  # `read_chip` says it again
        return None


def _size_and_place(path: Path) -> tuple[Size, Georeference | None] | None:
    """What GDAL says of a file; None where it opens none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with rasterio.open(path) as file:
                size = file.height, file.width
                return size, georeference(file) if max(size) <= MAX_SIDE else None
        except (RasterioError, UnicodeEncodeError):  # GDAL opens no name that is not UTF-8; `read_chip` says the rest
            return None
