"""Open rasters with GDAL. The content of a file cannot make GDAL read other files, or ask a server.

Check a raster file before GDAL opens it: its kind, its sidecars, and the files that a VRT names.

Check a vector layer before OGR opens it. Its content cannot make OGR read other files, or ask a server.
"""

from __future__ import annotations

import json
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing
from errno import EINVAL
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pyogrio
import rasterio
from pyproj.exceptions import CRSError
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError, RasterioIOError
from rasterio.io import DatasetReader
from shapely.errors import ShapelyError

from rsft.data.imagery.scene_uri import SceneUri
from rsft.errors import RequestError
from rsft.utils.untrusted.documents import open_regular, parse_json, parse_xml
from rsft.utils.untrusted.hdf5_files import find_named_files

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


VECTOR_HINT = "give .gpkg, .geojson, .fgb, .shp or .kml; convert other layers: ogr2ogr OUT.gpkg IN"

READ_ERRORS = (
    *(pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError),
    *(pyogrio.errors.FieldError, pyogrio.errors.GeometryError, pyogrio.errors.CRSError),
    *(ShapelyError, CRSError, ValueError),
)
"""What reading a damaged layer raises."""

_SQLITE, _FLATGEOBUF, _SHAPEFILE = b"SQLite format 3\0", b"fgb", b"\x00\x00\x27\x0a"
_MAX_KML_BYTES = 2**26  # 64 MiB
_GEOJSON_TYPES = frozenset(
    (
        *("FeatureCollection", "Feature", "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon"),
        *("MultiPolygon", "GeometryCollection", "Topology"),
    )
)
_CRS_BY_NAME = ("name", "epsg", "ogc")  # a crs of another type is an address, which GDAL would ask
_INDEX_MODULES = frozenset(
    ("rtree", "rtree_i32", "geopoly", "fts3", "fts4", "fts5", "virtualspatialindex", "virtualelementary")
)
_MODULE = re.compile(r"CREATE\s+VIRTUAL\s+TABLE\b.*?\bUSING\s+[\"'`\[]?(\w+)", re.IGNORECASE | re.DOTALL)
_FILE_FUNCTIONS = re.compile(
    r"\b(ogr_geocode|ogr_datasource|ogr_layer_|gdal_get_|load_extension|virtualogr)", re.IGNORECASE
)
_LINKS = frozenset(("networklink", "networklinkcontrol", "include"))  # elements of KML, XInclude


def open_vector(path: Path) -> Path | bytes:
    """Return what OGR may open instead of a file.

    Only formats whose files contain their features are accepted, and their content decides which one it is: GeoPackage
    and SpatiaLite, GeoJSON and TopoJSON, FlatGeobuf, Shapefile, and KML without links.

    Args:
        path: path of a vector layer.

    Returns:
        The absolute path, or the content of a JSON file without what OGR would misunderstand.

    Raises:
        RequestError: the file cannot be read, has another format, or refers to other files or servers.
    """
    try:
        with open_regular(path) as file:
            start = file.read(64)
    except OSError as error:
        raise RequestError(f"the layer cannot be read: {error.strerror}", path, VECTOR_HINT) from error
    try:
        if start.startswith(_SQLITE):
            _check_sqlite(path)
        elif start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
            return _geojson(path)
        elif start.lstrip()[:1] == b"<":
            _check_kml(path)
        elif not start.startswith(_FLATGEOBUF) and not (start.startswith(_SHAPEFILE) and path.suffix.lower() == ".shp"):
            raise ValueError("its format is not one of those whose files contain their features")
    except (ValueError, OSError, sqlite3.Error) as error:
        raise RequestError(f"the layer cannot be read: {error}", path, VECTOR_HINT) from error
    return path.absolute()


def _check_sqlite(path: Path) -> None:
    """Refuse tables and views that read other files."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        statements = [str(row[0]) for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    for statement in statements:
        module = _MODULE.match(statement.strip())
        if _FILE_FUNCTIONS.search(statement) or (module and module[1].lower() not in _INDEX_MODULES):
            raise ValueError("it contains a table or a view that can read other files")


def _geojson(path: Path) -> bytes:
    """Return the content, written again: OGR then reads the same values as this check, each key once."""
    with open_regular(path) as file:
        content = parse_json(file.read(), object_pairs_hook=_without_addresses)
    kind = str(content.get("type")) if isinstance(content, dict) else "none"
    if kind not in _GEOJSON_TYPES:
        raise ValueError(f"the type of the JSON is {kind[:40]!r}, not that of a layer")
    return json.dumps({"name": path.stem} | content).encode()  # without a name, GDAL takes that of a temporary file


def _without_addresses(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, unless its coordinate system is an address."""
    content = dict(pairs)
    for key, value in content.items():
        if key.lower() == "crs" and isinstance(value, dict):
            kinds = [str(kind).lower() for name, kind in value.items() if name.lower() == "type"]
            if any(kind not in _CRS_BY_NAME for kind in kinds):
                raise ValueError("its coordinate system (crs) is the address of another file")
    return content


def _check_kml(path: Path) -> None:
    with open_regular(path) as file:
        data = file.read(_MAX_KML_BYTES + 1)
    if len(data) > _MAX_KML_BYTES:
        raise ValueError(f"it has more than {_MAX_KML_BYTES:,} bytes of XML")
    root = parse_xml(data)
    tags = {element.tag.rpartition("}")[2].lower() for element in root.iter()}
    if root.tag.rpartition("}")[2] != "kml" or tags & _LINKS:
        raise ValueError("it is a list of other files or servers, or XML of another format than KML")
