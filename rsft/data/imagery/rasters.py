"""Open rasters with GDAL, and decode those in memory.

The content of a file cannot make GDAL read other files, or ask a server.
"""

import logging
import os
import re
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from errno import EINVAL
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import rasterio
from rasterio import _base
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader, MemoryFile

from rsft.data.imagery.raster_values import (
    IDENTITY_SCALING,
    Scaling,
    check_encoding,
    mask_nodata,
    read_validity,
    to_float32,
)
from rsft.data.imagery.scene_uri import SceneUri, file_state
from rsft.data.imagery.vrt import rewrite_vrt
from rsft.errors import DataError
from rsft.types import Pixels
from rsft.utils.cell.client import in_cell, is_inside
from rsft.utils.cell.named import check_link, outside_error
from rsft.utils.cell.processes import ReaderCell
from rsft.utils.cell.walls import Walls
from rsft.utils.untrusted.documents import leads_away, open_regular
from rsft.utils.untrusted.gdal_drivers import PrivateDriver, limit_drivers
from rsft.utils.untrusted.hdf5_files import find_named_files

MAX_VRT_BYTES = 2**24
"""Largest VRT that is read: 16 MiB, about 20,000 images."""

MAX_ARRAY_MEMORY = 2**32
"""Address space of the process that tries an HDF5 or netCDF file, or on macOS and
Windows its resident memory: 4 GiB."""

MAX_ARRAY_SECONDS = 120
"""Seconds of this process."""

MAX_TIFF_BYTES = 2**32
"""Largest size of a decoded TIFF in bytes: 4 GiB."""

_IMAGE_DRIVERS = frozenset(
    (
        "GTiff",
        "SNAP_TIFF",
        "PNG",
        "JPEG",
        "BMP",
        "WEBP",
        "GIF",
        "BIGGIF",
        "JPEGXL",
        "AVIF",
        "PNM",
        "JP2OpenJPEG",
        "JP2KAK",
        "JP2ECW",
        "JP2MrSID",
        "NITF",
        "ENVI",
        "EHdr",
        "HFA",
        "RMF",
        "RST",
        "SGI",
        "COSAR",
        "CEOS",
        "SAR_CEOS",
        "JAXAPALSAR",
        "GFF",
        "AirSAR",
        "ISCE",
        "ROI_PAC",
        "GRIB",
        "AAIGrid",
        "GSAG",
        "GSBG",
        "GS7BG",
        "DTED",
        "SRTMHGT",
        "USGSDEM",
    )
)
"""Drivers of formats whose files contain the pixels, or lie beside a header with the
same stem. No format that names other files or servers is among them (VRT, WMS, WCS,
STAC, PDS, DIMAP, ...). GDAL finds the driver by the content of a file, whatever its
suffix."""

_RAW_DRIVERS = frozenset(("ENVI", "EHdr", "ISCE", "ROI_PAC", "RST"))
"""Drivers that take any bytes as values, if a header beside them says so."""

_ARRAY_DRIVERS = frozenset(("HDF5", "HDF5Image", "netCDF", "BAG"))
"""Drivers of HDF5 and netCDF. They only open files with a suffix of `_ARRAY_SUFFIXES`
that name no other files."""

_ARRAY_SUFFIXES = frozenset((".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".he5"))
_IMAGE_BESIDE = re.compile(r"\.(ovr|msk|r\d)$", re.IGNORECASE)
"""End of the name of an overview or a mask; .r1 to .r5 are overviews of NITF."""

_PIXELS_BESIDE = re.compile(r"\.(ovr|msk|r\d|aux|rrd|ige)$", re.IGNORECASE)
"""End of the name of any file beside a raster that contains pixels."""

_T = TypeVar("_T")
GDAL_ERRORS = (RasterioError, CPLE_BaseError, UnicodeError)
"""What GDAL raises of a file; the last one for a name or a text that is not UTF-8."""

_DRIVERS = _IMAGE_DRIVERS | _ARRAY_DRIVERS | {"MEM"}
limit_drivers(_base.__file__, _DRIVERS | {"VRT"})
_VRT_DRIVER = PrivateDriver(_base.__file__, "VRT")
# GDAL reports its errors as exceptions too
logging.getLogger("rasterio").addHandler(logging.NullHandler())


class ForeignFilesError(RasterioIOError):  # type: ignore[misc]
    """A file is not opened: it refers to other files or servers, or is not regular."""


def open_raster(name: str) -> Any:
    """Open a raster with GDAL.

    A file is opened as an image or not at all: one that lists servers or other files is
    refused. The exception is a VRT named .vrt on this machine, whose images lie in its
    folder. A name that is not a path, such as a subdataset with its driver, is opened
    as the user wrote it. Files beside a member of an archive are not read.

    Returns:
        rasterio's dataset.

    Raises:
        ForeignFilesError: the file refers to other files or servers, or is a pipe, a
            socket or a device.
        rasterio.errors.RasterioError: GDAL cannot open it.
    """
    uri = SceneUri(name)
    path = Path(name)
    has_arrays = path.suffix.lower() in _ARRAY_SUFFIXES
    if not uri.is_path:
        _check_container(uri)
        if uri.path and not name.startswith("/vsi"):
            _check_arrays(name, uri.path)
        with _environment(is_remote=uri.is_remote):
            if not name.startswith("/vsi"):
                # the name of a subdataset begins with that of its driver
                return rasterio.open(name)
            return _open_image(name, _drivers(has_arrays))
    if not path.is_absolute():  # GTIFF_DIR:1:a.tif would be a part of a.tif
        name = f".{os.sep}{name}"
    if path.suffix.lower() == ".vrt":
        return _open_vrt(path)
    _read_start(path, 1)
    if has_arrays:
        _check_arrays(name, path)
    with _environment(has_sidecars=_check_sidecars(path)):
        return _open_image(name, _drivers(has_arrays), is_path=True)


def _check_container(uri: SceneUri) -> None:
    """Check the file in a name that GDAL resolves, before GDAL opens it in a cell.

    Raises:
        RequestError: no argument of the command names the file.
    """
    if uri.is_remote or not is_inside():
        return
    if not uri.path or not uri.path.exists():
        raise outside_error(uri.text)
    check_link(uri.path)


def _environment(*, has_sidecars: bool = False, is_remote: bool = False) -> Any:
    """Return an environment in which GDAL reads no other files and asks no servers."""
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE" if has_sidecars else "EMPTY_DIR"}
    if not is_remote:
        # no name of a server has only this letter
        options["CPL_VSIL_CURL_ALLOWED_FILENAME"] = "-"
    return rasterio.Env(**options)


@lru_cache
def _drivers(has_arrays: bool) -> list[str]:
    accepted = _DRIVERS if has_arrays else _IMAGE_DRIVERS
    with rasterio.Env() as environment:
        return sorted(accepted.intersection(environment.drivers()))


def _open_image(name: str, drivers: list[str], *, is_path: bool = False) -> Any:
    """Open a raster that takes no pixels from other files.

    Raises:
        ForeignFilesError: it does.
        RasterioError: GDAL cannot open it.
    """
    try:
        file = DatasetReader(name, driver=drivers)  # `open` takes one driver
    except UnicodeDecodeError as error:  # for instance the name of a coordinate system
        raise RasterioIOError(f"a text in it is not UTF-8: {error}") from error
    fault = ""
    if is_path and len(_folders(file)) > 1:
        fault = "it takes its values or its header from another folder: copy the files"
    elif file.tags(ns="OVERVIEWS"):
        fault = "its tags name another file as its overviews"
    if fault:
        file.close()
        raise ForeignFilesError(fault)
    return file


def _folders(file: Any) -> set[Path]:
    """Return the folders of an open raster and of the files beside it.

    Raw values are in those after links, since any file would be an image.
    """
    if file.driver in _RAW_DRIVERS:
        return {Path(name).resolve().parent for name in file.files}
    return {Path(os.path.abspath(name)).parent for name in file.files}  # noqa: PTH100


def _check_arrays(name: str, path: Path) -> None:
    """Check an HDF5 or netCDF file before its library opens it.

    Raises:
        ForeignFilesError: it names other files, which the library would read.
        RasterioIOError: it cannot be opened.
    """
    try:
        fault = find_named_files(path)
    except OSError as error:
        raise RasterioIOError(error.strerror or str(error)) from error
    if fault:
        raise ForeignFilesError(fault)
    state = file_state(path)
    if state:
        _try_arrays(name, str(path), state)


@lru_cache(maxsize=1024)
def _try_arrays(name: str, path: str, state: tuple[int, int]) -> None:
    """Open HDF5 or netCDF in a process with limits.

    Its library may crash, or need any time or memory.

    Raises:
        RasterioIOError: the file cannot be opened there.
    """
    if is_inside():
        return  # a crash ends this process alone
    walls = Walls((Path(path).absolute(),), MAX_ARRAY_MEMORY)
    try:
        with closing(ReaderCell(walls, MAX_ARRAY_SECONDS)) as cell:
            cell.call(_open_arrays, name)
    except DataError as error:
        raise RasterioIOError(f"the file cannot be opened: {error.message}") from error


def _open_arrays(name: str) -> None:
    """Open a dataset, and read its first pixel."""
    with suppress(*GDAL_ERRORS), rasterio.open(name) as file:  # the caller reports them
        if file.count:  # else it only lists its subdatasets
            file.read(window=((0, 1), (0, 1)))


def _check_sidecars(path: Path) -> bool:
    """Check overviews and masks beside a raster.

    Returns:
        Whether any file beside it has its stem, such as a world file.
    """
    try:
        names = _list_names(path.parent, path.parent.stat().st_mtime_ns)
    except OSError:  # GDAL may open the file nevertheless
        return False
    has_sidecars = False
    for name in names[bisect_left(names, path.stem) :]:
        if not name.startswith(path.stem):
            break
        end = name.removeprefix(path.stem)
        if name == path.name or not end.startswith((".", "_")):
            continue
        has_sidecars = True
        if _PIXELS_BESIDE.search(name) and leads_away(path.with_name(name), path):
            raise ForeignFilesError(
                f"the link {name} leads to another folder: copy the file"
            )
        if name.startswith(f"{path.name}.") and _IMAGE_BESIDE.search(name):
            _check_image(path.with_name(name))
    return has_sidecars


def _check_image(path: Path) -> None:
    """Check a file that GDAL will open with any driver.

    Raises:
        ForeignFilesError: it is no image that rsft opens.
    """
    try:
        open_raster(str(path)).close()
    except ForeignFilesError:
        raise
    except RasterioError as error:
        raise ForeignFilesError(f"{path.name} is no image: {error}") from error


@lru_cache(maxsize=4)
def _list_names(folder: Path, mtime_ns: int) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _read_start(path: Path, size: int) -> bytes:
    """Return the first bytes of a file; none of a folder."""
    try:
        with open_regular(path) as file:
            return file.read(size)
    except IsADirectoryError:
        return b""
    except OSError as error:
        if error.errno == EINVAL:
            raise ForeignFilesError(error.strerror) from error
        raise RasterioIOError(error.strerror) from error


def _open_vrt(path: Path) -> Any:
    """Open a VRT of images below its folder, written anew."""
    data = _read_start(path, MAX_VRT_BYTES + 1)
    if len(data) > MAX_VRT_BYTES:
        raise ForeignFilesError(f"the VRT is larger than {MAX_VRT_BYTES:,} bytes")
    try:
        content, images = rewrite_vrt(data, path.resolve().parent)
    except ValueError as error:
        raise ForeignFilesError(f"the VRT cannot be used: {error}") from error
    for image in images:
        _check_image(image)
    with (
        MemoryFile(content, filename=path.name) as memory,
        _environment(),
        _VRT_DRIVER.opened(),
    ):
        return _open_image(memory.name, [_VRT_DRIVER.name])


@in_cell
def read_tiff_tags(path: Path, read: Callable[[Any], _T]) -> _T | None:
    """Read the dataset of a TIFF file.

    Args:
        path: the file.
        read: takes the dataset that rasterio has opened, such as `read_band_names`.

    Returns:
        The result of `read`; None if the file is no TIFF, or GDAL cannot open it.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with open_raster(str(path)) as file:
                return read(file)
        except GDAL_ERRORS:
            return None


def read_tiff(data: bytes, path: Path) -> Pixels:
    """Decode a TIFF.

    What it declares as nodata, or masks, becomes NaN in floats and 0 in integers.

    Returns:
        Pixels (H, W, B).

    Raises:
        ValueError: GDAL cannot read it.
        DataError: the pixels are no values, too many, complex or all invalid; `path` is
            only named.
    """
    with _open_memory(data, "GTiff") as file:
        _check_tiff(file, path)
        bands: Pixels = file.read()  # (B, H, W)
        valid = read_validity(file)
        nodata_values = file.nodatavals
        scalings = [*map(Scaling, file.scales, file.offsets)]
    if valid is not None and not valid.any():
        raise DataError(
            "its mask says that no pixel is valid",
            path,
            "leave the file out, or remove the mask",
        )
    parts = list(zip(bands, nodata_values, scalings, strict=True))
    if set(scalings) == {IDENTITY_SCALING}:
        for band, nodata, _ in parts:
            mask_nodata(band, nodata, path, valid)
    else:
        bands = np.stack([to_float32(*part, path, valid) for part in parts])
    return np.ascontiguousarray(bands.transpose(1, 2, 0))


def _check_tiff(file: Any, path: Path) -> None:
    check_encoding([file], path)
    if file.dtypes[0].startswith("complex"):
        raise DataError(
            f"the pixels are complex ({file.dtypes[0]}), but a model takes real values",
            path,
            "give the scene that the chips were cut from, with --read modulus, or store"
            " the modulus in the chips",
        )
    pixel_bytes = sum(np.dtype(dtype).itemsize for dtype in file.dtypes)
    size = file.width * file.height * pixel_bytes
    if size > MAX_TIFF_BYTES:  # a file of some kB can state any size
        raise DataError(
            f"the image is too large: {size:,} bytes when it is decoded; the limit is"
            f" {MAX_TIFF_BYTES:,}",
            path,
            "cut it into smaller ones, or leave it out",
        )


def read_png(data: bytes) -> Pixels:
    """Decode a PNG (H, W, B); a ValueError says that GDAL cannot read it."""
    with _open_memory(data, "PNG") as file:
        return np.ascontiguousarray(file.read().transpose(1, 2, 0))


@contextmanager
def _open_memory(data: bytes, driver: str) -> Iterator[Any]:
    """Open a file in memory in one environment of GDAL, or each call makes its own.

    A path might not be UTF-8.
    """
    try:
        with (
            rasterio.Env(),
            MemoryFile(data) as memory,
            memory.open(driver=driver) as file,
        ):
            yield file
    except GDAL_ERRORS as error:
        raise ValueError(f"GDAL cannot read it: {error}") from error
