"""A scene on disk: what it is, and windows of it, never the whole."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from rsft.data.imagery.bands import BANDS
from rsft.data.imagery.reader import mask_nodata
from rsft.errors import DataError
from rsft.inference.scenes.georeference import Georeference, georeference
from rsft.types import Pixels

CACHE_MB = 256
"""Blocks that GDAL keeps decoded. Its own choice is 5 % of the machine, whatever else runs there."""

_READ = 2048  # pixels: the side, about, of a window of square blocks when a scene is read from end to end
_SENTINEL1 = re.compile(r"s1[a-d]-\w+-\w+-(vv|vh|hh|hv)-", re.IGNORECASE)  # of a file in measurement/


class Block(NamedTuple):
    """A part of a scene, in pixels; the end is not in it."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, eq=False)
class Scene:
    """A raster that GDAL can open, or the measurements of a Sentinel-1 product, a file a polarisation.

    Attributes:
        number_type: NumPy's name, such as uint16.
        bands: what the file calls its bands; None where it does not name them all as we do.
        blocks: height and width of the pieces that the file is stored in.
        place: where it lies; None where it does not say.
        spacing: metres a pixel, down and along, in the middle; None where the place is not known.
        files: what GDAL is given to open: the path itself, or the measurements, of one band each.
    """

    path: Path
    height: int
    width: int
    count: int
    number_type: str
    bands: tuple[str, ...] | None
    blocks: tuple[int, int]
    place: Georeference | None
    spacing: tuple[float, float] | None
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    def windows(self) -> Iterator[Block]:
        """The scene from end to end, in windows of whole blocks."""
        along = max(1, round(_READ / self.blocks[1])) * self.blocks[1]
        down = max(1, round(_READ**2 / along / self.blocks[0])) * self.blocks[0]
        for top in range(0, self.height, down):
            for left in range(0, self.width, along):
                yield Block(top, left, min(top + down, self.height), min(left + along, self.width))

    def block_of(self, row: float, col: float) -> tuple[int, int]:
        """Which block a pixel is in: places in this order are read without decoding a block twice."""
        return int(row // self.blocks[0]), int(col // self.blocks[1])


class Reader:
    """Windows of a scene, through one handle a thread and file."""

    def __init__(self, scene: Scene, bands: Sequence[int] | None = None) -> None:
        """Args: bands: indices from 0 of those to read, in order; all if None."""
        self.scene = scene
        self.indices = list(range(scene.count)) if bands is None else list(bands)
        self._own = threading.local()
        self._handles: list[Any] = []  # of all threads

    def __call__(self, block: Block) -> Pixels:
        """(H, W, B), also beyond the edges; what has no value is 0 in integers and NaN in floats.

        Raises:
            DataError: the file is damaged there, or holds NaN without declaring it.
        """
        scene = self.scene
        top, left = max(block.top, 0), max(block.left, 0)
        bottom, right = min(block.bottom, scene.height), min(block.right, scene.width)
        nothing = np.nan if np.issubdtype(scene.number_type, np.inexact) else 0
        shape = (block.bottom - block.top, block.right - block.left, len(self.indices))
        pixels = np.full(shape, nothing, scene.number_type)
        if top < bottom and left < right:
            inside = self._read(Window(left, top, right - left, bottom - top))
            pixels[top - block.top : bottom - block.top, left - block.left : right - block.left] = inside
        return pixels

    def _read(self, window: Window) -> Pixels:
        try:
            files = self._files()
            if len(files) == 1:
                bands = files[0].read([index + 1 for index in self.indices], window=window)
                missing = [files[0].nodatavals[index] for index in self.indices]
            else:
                bands = np.stack([files[index].read(1, window=window) for index in self.indices])
                missing = [files[index].nodata for index in self.indices]
        except RasterioError as error:
            raise DataError("the file is cut short or damaged", self.scene.path, "copy the file again") from error
        for band, nothing in zip(bands, missing, strict=True):
            mask_nodata(band, nothing, self.scene.path)
        return np.asarray(bands.transpose(1, 2, 0))

    def _files(self) -> list[Any]:
        """This thread's handles."""
        if not hasattr(self._own, "files"):
            with unplaced():
                self._own.files = [rasterio.open(path) for path in self.scene.files]
            self._handles += self._own.files
        files: list[Any] = self._own.files
        return files

    def close(self) -> None:
        """Close every thread's handle."""
        for handle in self._handles:
            handle.close()
        self._handles.clear()


def open_scene(path: Path) -> Scene:
    """What the raster at `path` is: a file, or the folder .SAFE of a Sentinel-1 product.

    Raises:
        DataError: GDAL cannot read it, or it has measurements of several swaths.
    """
    files = tuple(sorted((path / "measurement").glob("*.tiff"))) or (path,)
    if not all(os.access(file, os.R_OK) for file in files):
        raise DataError("there is no such scene", path, "check the path")
    try:
        with unplaced(), ExitStack() as stack:
            opened = [stack.enter_context(rasterio.open(file)) for file in files]
            _check(opened, path)
            first, names = opened[0], [_band_names(file) for file in opened]
            place = georeference(first)
            return Scene(
                path=path,
                height=first.height,
                width=first.width,
                count=sum(file.count for file in opened),
                number_type=first.dtypes[0],
                bands=None if None in names else tuple(name for own in names for name in own or ()),
                blocks=first.block_shapes[0],
                place=place,
                spacing=place.spacing(first.height / 2, first.width / 2) if place else None,
                files=files,
            )
    except (RasterioError, UnicodeEncodeError) as error:
        fix = "give a GeoTIFF, COG, NITF, ENVI or another raster that GDAL reads"
        raise DataError("GDAL cannot read the scene", path, fix) from error


def _check(opened: Sequence[Any], path: Path) -> None:
    if not opened[0].count:
        raise DataError("the raster holds no band of its own", path, "give one of the files in it")
    if any(ColorInterp.palette in file.colorinterp for file in opened):
        raise DataError("the pixels are indices into a palette", path, "convert the file to grey or RGB")
    if len({(file.shape, file.dtypes) for file in opened}) > 1:
        raise DataError("the product has measurements of several swaths", path, "give one of the files in measurement/")


def gdal_limits() -> rasterio.Env:
    """The environment that scenes are read in."""
    return rasterio.Env(GDAL_CACHEMAX=CACHE_MB, GDAL_DISABLE_READDIR_ON_OPEN="FALSE")


def _band_names(file: Any) -> tuple[str, ...] | None:
    told = [description or "" for description in file.descriptions]
    found = _SENTINEL1.match(Path(file.name).name)
    if found and file.count == 1:
        told = [found[1]]
    names = tuple(re.sub(r"^B(\d)$", r"B0\1", name.strip().upper()) for name in told)
    usual = {name.upper(): name for name in BANDS}
    known = tuple(usual[name] for name in names if name in usual)
    return known if len(set(known)) == file.count else None


@contextmanager
def unplaced() -> Iterator[None]:
    """No warning of a file without a georeference: that is told otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
