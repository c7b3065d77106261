"""Open rasters with GDAL. The content of a file cannot make GDAL read other files, or ask a server."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import rasterio
from rasterio._err import CPLE_BaseError  # raised for odd GeoKeys; not part of rasterio.errors
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader

from rsft.data.imagery.raster_files import ForeignFilesError, check_raster_file
from rsft.data.imagery.scene_uri import SceneUri
from rsft.utils.untrusted.hdf5_files import find_named_files

_T = TypeVar("_T")

ARRAY_SUFFIXES = frozenset({".nc", ".nc4", ".cdf", ".h5", ".hdf5", ".he5"})

_IMAGE_DRIVERS = frozenset(
    (
        *("GTiff", "SNAP_TIFF", "PNG", "JPEG", "BMP", "WEBP", "GIF", "BIGGIF", "JPEGXL", "AVIF", "PNM"),
        *("JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "NITF", "ENVI", "EHdr", "HFA", "RMF", "RST", "SGI"),
        *("COSAR", "CEOS", "SAR_CEOS", "JAXAPALSAR", "GFF", "AirSAR", "ISCE", "ROI_PAC", "GRIB"),
        *("AAIGrid", "GSAG", "GSBG", "GS7BG", "DTED", "SRTMHGT", "USGSDEM"),
    )
)
"""Drivers of formats whose files contain the pixels, or lie beside a header with the same stem. No format that names
other files or servers is among them (VRT, WMS, WCS, STAC, PDS, DIMAP, ...). GDAL finds the driver by the content of a
file, whatever its suffix."""

_ARRAY_DRIVERS = frozenset(("HDF5", "HDF5Image", "netCDF", "BAG"))
"""Drivers of HDF5 and netCDF. They only open files with a suffix of ARRAY_SUFFIXES that name no other files."""

_NO_SERVER = {"CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".rsft-none"}  # GDAL then opens no name of a server
_OVERVIEWS = "OVERVIEWS"  # domain of tags that name another file


def open_raster(name: str) -> Any:
    """Open a raster with GDAL.

    A file is opened as an image or not at all: one that lists servers or other files is refused. The exception is a
    VRT named .vrt on this machine, whose images lie in its folder. A name that is not a path, such as a subdataset
    with its driver, is opened as the user wrote it.

    Args:
        name: a path, or another name under which GDAL opens it.

    Returns:
        rasterio's dataset.

    Raises:
        ForeignFilesError: the file refers to other files or servers, or is a pipe, a socket or a device.
        rasterio.errors.RasterioError: GDAL cannot open it.
    """
    uri = SceneUri(name)
    options: dict[str, Any] = _NO_SERVER
    if uri.is_remote:
        options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}  # a server has no list of files
    is_vrt = uri.is_path and check_raster_file(Path(name), open_raster)
    has_arrays = not is_vrt and Path(name).suffix.lower() in ARRAY_SUFFIXES
    if uri.path and (has_arrays if uri.is_path else not name.startswith("/vsi")):
        _check_arrays(uri.path)
    with rasterio.Env(**options):
        if not uri.is_path and not name.startswith("/vsi"):
            return rasterio.open(name)  # the name of a subdataset begins with that of its driver
        drivers = ["VRT"] if is_vrt else _drivers(has_arrays)
        file = DatasetReader(name, driver=drivers)  # `open` takes one driver
    if file.tags(ns=_OVERVIEWS):
        file.close()
        raise ForeignFilesError("its tags name another file as its overviews")
    return file


def _check_arrays(path: Path) -> None:
    """Refuse a file that is HDF5 and names other files; the HDF5 library would read them."""
    try:
        fault = find_named_files(path)
    except OSError as error:
        raise RasterioIOError(error.strerror or str(error)) from error
    if fault:
        raise ForeignFilesError(fault)


def read_tiff_tags(path: Path, read: Callable[[Any], _T]) -> _T | None:
    """Return what the tags of a TIFF file say.

    Args:
        path: path of any image file.
        read: reads tags of the dataset, opened by rasterio.

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
        except (RasterioError, CPLE_BaseError, UnicodeEncodeError):  # GDAL cannot open file names that are not UTF-8
            return None


@cache
def _drivers(has_arrays: bool) -> list[str]:
    with rasterio.Env() as environment:
        available = set(environment.drivers())
    return sorted(available & (_IMAGE_DRIVERS | _ARRAY_DRIVERS if has_arrays else _IMAGE_DRIVERS))
