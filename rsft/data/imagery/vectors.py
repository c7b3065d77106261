"""Read a vector layer in a process of its own, which can harm nothing but itself.

The process has only the drivers of formats whose files contain their features, limits
of memory and time, and, where the kernel has Landlock, can read nothing but the folder
of the layer and connect to nothing. A view of a GeoPackage without end, for instance,
stops this process and not the job.
"""

import json
import shutil
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa
import pyogrio
from pyproj.exceptions import ProjError
from shapely.errors import ShapelyError

from rsft.errors import DataError, RequestError
from rsft.types import JsonObject
from rsft.utils.cell.processes import ReaderCell
from rsft.utils.cell.walls import Walls
from rsft.utils.untrusted.documents import (
    MAX_TABLE_BYTES,
    leads_away,
    load_json,
    open_regular,
)
from rsft.utils.untrusted.gdal_drivers import limit_drivers

MAX_LAYER_MEMORY = 2**32
"""Address space of the process that reads a layer, or on macOS and Windows its resident
memory: 4 GiB."""
MAX_LAYER_SECONDS = 120
"""Seconds of this process."""
MAX_ATTRIBUTE_BYTES = 2**28
"""Largest size of all attributes of a layer: 256 MiB. A short view can make any amount
of text."""

_HINT = (
    "give .gpkg, .geojson, .fgb, .shp or .kml; convert other layers: ogr2ogr"
    " OUT.gpkg IN"
)
_DRIVERS = (
    "GPKG",
    "SQLite",
    "GeoJSON",
    "TopoJSON",
    "FlatGeobuf",
    "ESRI Shapefile",
    "LIBKML",
    "KML",
)
_LOG = "-wal"
_SLOW = ("geopandas", "pandas")
"""What pyogrio would import, which takes half of the time."""
READ_ERRORS = (
    pyogrio.errors.DataSourceError,
    pyogrio.errors.DataLayerError,
    pyogrio.errors.FeatureError,
    pyogrio.errors.FieldError,
    pyogrio.errors.GeometryError,
    pyogrio.errors.CRSError,
    ShapelyError,
    ProjError,
    ValueError,
)
"""What reading a damaged layer raises."""

limit_drivers(pyogrio._io.__file__, (*_DRIVERS, "MEM"))

_GEOMETRIES = [
    "Point",
    "MultiPoint",
    "LineString",
    "MultiLineString",
    "Polygon",
    "MultiPolygon",
    "GeometryCollection",
]
_GEOJSON_TYPES = frozenset((*_GEOMETRIES, "FeatureCollection", "Feature", "Topology"))
_CRS_BY_NAME = ("name", "epsg", "ogc")
"""Types of a crs; another one is an address, which GDAL would ask."""


class LayerContent(NamedTuple):
    """The features of a layer.

    Attributes:
        crs: coordinate system; None if the layer states none.
        fields: names of its attributes.
        table: feature ids in the first column, attributes, and, if it has geometries,
            these as WKB in the last one.
    """

    crs: str | None
    fields: list[str]
    table: pa.Table


LayerAnswer = tuple[dict[str, bool], LayerContent | None]
"""Layers of a file, each with whether it has geometries; and the content of one."""


def read_layer(
    path: Path, layer: str | None = None, content: bytes | None = None
) -> LayerAnswer:
    """Read a layer of a file: the named one, or the only one with geometries.

    Args:
        path: GeoPackage, SpatiaLite, GeoJSON, TopoJSON, FlatGeobuf, Shapefile or KML;
            its content decides which one.
        layer: name of the layer, which then needs no geometries.
        content: what to read instead of the file, such as GeoJSON of `read_geojson`.

    Returns:
        Whether each layer has geometries, by its name; and the content, None if `layer`
        is missing, or not exactly one layer has geometries.

    Raises:
        RequestError: the file cannot be read, or not within its limits of
            memory and time.
    """
    try:
        _check_links(path)
    except ValueError as error:
        raise _unreadable(path, error) from error
    readable = (path.absolute().parent, path.resolve().parent)
    with ExitStack() as stack:
        if _has_log(path):
            # SQLite writes beside the file to read it; else GDAL ignores the log
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="rsft-")))
            for suffix in ("", _LOG):
                shutil.copyfile(f"{path}{suffix}", folder / f"{path.name}{suffix}")
            walls = Walls((folder,), MAX_LAYER_MEMORY, writable=(folder,))
        else:
            folder = path.parent
            walls = Walls(readable, MAX_LAYER_MEMORY)
        walls = walls._replace(hidden=_SLOW)
        cell = stack.enter_context(closing(ReaderCell(walls, MAX_LAYER_SECONDS)))
        try:
            answer: LayerAnswer = cell.call(
                _read_file, folder / path.name, layer, content
            )
        except DataError as error:
            raise _unreadable(path, error.message) from error
        return answer


def _read_file(path: Path, layer: str | None, content: bytes | None) -> LayerAnswer:
    try:
        if content is None and is_json(path):
            content = json.dumps(read_geojson(path)).encode()
        return _read(content or path, layer)
    except (*READ_ERRORS, pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _check_links(path: Path) -> None:
    """Raise an error if a part of a layer is a link to another folder.

    The process that reads the layer does not see it, and would leave it out.
    """
    names = [path.name + _LOG]
    for suffix in (".shx", ".dbf", ".prj", ".cpg"):
        names += [path.stem + suffix, path.stem + suffix.upper()]
    for name in names:
        if leads_away(path.with_name(name), path):
            raise ValueError(f"the link {name} leads to another folder: copy the file")


def _unreadable(path: Path, fault: object) -> RequestError:
    if isinstance(fault, OSError):
        fault = fault.strerror
    fault = str(fault).strip().partition("\n")[0] or type(fault).__name__
    return RequestError(f"the layer cannot be read: {fault}", path, _HINT)


def _has_log(path: Path) -> bool:
    """Return whether a SQLite file has changes in a file of its own.

    QGIS leaves them there while it is open.
    """
    log = path.with_name(path.name + _LOG)
    return log.is_file() and log.stat().st_size > 0


def _read(source: Path | bytes, layer: str | None) -> LayerAnswer:
    layers = {str(name): kind is not None for name, kind in pyogrio.list_layers(source)}
    if layer is None and sum(layers.values()) == 1:
        layer = next(name for name, has_geometries in layers.items() if has_geometries)
    if layer not in layers:
        return layers, None
    header, table = pyogrio.read_arrow(source, layer=layer, return_fids=True)
    table.validate(full=True)  # texts are UTF-8
    size = 0
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name in header["fields"]:
            size += column.nbytes
    if size > MAX_ATTRIBUTE_BYTES:
        raise ValueError(
            f"its attributes have more than {MAX_ATTRIBUTE_BYTES:,} bytes; keep only"
            " those you need"
        )
    return layers, LayerContent(header["crs"], list(map(str, header["fields"])), table)


def is_json(path: Path) -> bool:
    """Return whether a file begins like a JSON object.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        with open_regular(path) as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    except OSError as error:
        raise _unreadable(path, error) from error


def read_geojson(path: Path) -> JsonObject:
    """Return the content of GeoJSON or TopoJSON.

    OGR, which gets it written again, reads each key once and asks no address.

    Raises:
        RequestError: the file is no such JSON, or its coordinate system is an address.
    """
    try:
        content: JsonObject = load_json(
            path, MAX_TABLE_BYTES, object_pairs_hook=_without_addresses
        )
        kind = str(content.get("type")) if isinstance(content, dict) else "none"
        if kind not in _GEOJSON_TYPES:
            raise ValueError(
                f"the type of the JSON is {kind[:40]!r}, not that of a layer"
            )
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    # without a name, GDAL takes that of a temporary file
    return {"name": path.stem} | content


def _without_addresses(pairs: Iterable[tuple[str, Any]]) -> JsonObject:
    """Return a JSON object, unless its coordinate system is an address."""
    content = dict(pairs)
    for key, crs in content.items():
        if key.lower() != "crs" or not isinstance(crs, dict):
            continue
        for name, kind in crs.items():
            if name.lower() == "type" and str(kind).lower() not in _CRS_BY_NAME:
                raise ValueError(
                    "its coordinate system (crs) is the address of another file"
                )
    return content
