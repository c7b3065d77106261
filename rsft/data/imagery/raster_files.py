"""Check a raster file before GDAL opens it: its kind, its sidecars, and the files that a VRT names."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from errno import EINVAL
from pathlib import Path
from typing import Any

from rasterio.errors import RasterioIOError

from rsft.utils.untrusted.regular_files import open_regular
from rsft.utils.untrusted.safe_xml import parse_xml

MAX_VRT_BYTES = 2**24
"""Largest VRT that is read: 16 MiB, about 20,000 images."""

_REFERENCES = re.compile(
    rb"\s*<(\?xml|!--|VRTDataset|OGRVRT|GDAL|WMS|WCS|WMTS|Capabilities|kml|TileMap)", re.IGNORECASE
)
_IMAGE_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"EHFA_HEADER_TAG")  # of overviews and masks
_SIDECARS = (".ovr", ".OVR", ".msk", ".MSK")
_PLAIN_BAND = "VRTSourcedRasterBand"
_OTHER_SOURCES = frozenset(  # elements of a VRT that name files in other ways, or run code; attributes as elements
    (
        *("group", "array", "arraysource", "gdalwarpoptions", "sourcedataset", "pansharpeningoptions", "input"),
        *("processingsteps", "step", "argument", "pixelfunctioncode", "subclass", "relativetovrt", "openoptions"),
    )
)


class ForeignFilesError(RasterioIOError):  # type: ignore[misc]
    """A file is not opened, because it refers to other files or servers, or is not a regular file."""


def check_raster_file(path: Path, open_image: Callable[[str], AbstractContextManager[Any]]) -> bool:
    """Check a file before GDAL opens it.

    Args:
        path: path of the file. A folder is accepted.
        open_image: opens an image that a VRT names.

    Returns:
        Whether the file is a VRT: its suffix is .vrt, and every file that it names is an image below its folder.

    Raises:
        ForeignFilesError: the file refers to other files or servers, or is a pipe, a socket or a device.
        RasterioIOError: the file cannot be read.
    """
    start = _read_start(path, 1024)
    if _REFERENCES.match(start.removeprefix(b"\xef\xbb\xbf")):
        if path.suffix.lower() != ".vrt":
            raise ForeignFilesError("the file is a list of other files or servers, not an image")
        _check_vrt(path, _read_start(path, MAX_VRT_BYTES + 1), open_image)
        return True
    for suffix in _SIDECARS:  # GDAL opens them by content too
        sidecar = path.with_name(path.name + suffix)
        if sidecar.exists() and not _read_start(sidecar, 16).startswith(_IMAGE_MAGIC):
            raise ForeignFilesError(f"{sidecar.name} beside it is not a TIFF file")
    return False


def _read_start(path: Path, size: int) -> bytes:
    """Return the first bytes of a file; none of a folder."""
    try:
        with open_regular(path) as file:
            return file.read(size)
    except IsADirectoryError:
        return b""
    except OSError as error:
        kind = ForeignFilesError if error.errno == EINVAL else RasterioIOError
        raise kind(error.strerror) from error


def _check_vrt(path: Path, data: bytes, open_image: Callable[[str], AbstractContextManager[Any]]) -> None:
    """Check that a VRT names images below its folder, and nothing else."""
    if len(data) > MAX_VRT_BYTES:
        raise ForeignFilesError(f"the VRT is larger than {MAX_VRT_BYTES:,} bytes")
    try:
        root = parse_xml(data)
    except ValueError as error:
        raise ForeignFilesError(f"the VRT cannot be used: {error}") from error
    sources: set[tuple[str, str]] = set()
    for element in root.iter():
        tag = element.tag.lower()  # GDAL ignores case, and takes attributes for elements
        attributes = {name.lower(): value for name, value in element.attrib.items()}
        kind = attributes.get("subclass", _PLAIN_BAND)
        if tag in _OTHER_SOURCES or kind != _PLAIN_BAND or "sourcefilename" in attributes:
            raise ForeignFilesError(f"the VRT contains {element.get('subClass', element.tag)}, not only images")
        if tag == "sourcefilename":
            sources.add((element.text or "", attributes.get("relativetovrt", "0")))
    folder = path.parent.resolve()
    for text, is_relative in sorted(sources):
        source = (path.parent / text if is_relative == "1" else Path(text)).resolve()
        if not (source.is_relative_to(folder) and source.is_file()) or source.suffix.lower() == ".vrt":
            raise ForeignFilesError(f"the VRT names {text}, which is not an image below its folder")
        open_image(str(source)).__exit__(None, None, None)
