"""Check a vector layer before OGR opens it. Its content cannot make OGR read other files, or ask a server."""

import json
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyogrio
from pyproj.exceptions import CRSError
from shapely.errors import ShapelyError

from rsft.errors import RequestError
from rsft.utils.untrusted.documents import MAX_TABLE_BYTES, load_json, open_regular, parse_xml

_HINT = "give .gpkg, .geojson, .fgb, .shp or .kml; convert other layers: ogr2ogr OUT.gpkg IN"

READ_ERRORS = (
    *(pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError),
    *(pyogrio.errors.FieldError, pyogrio.errors.GeometryError, pyogrio.errors.CRSError),
    *(ShapelyError, CRSError, ValueError),
)
"""What reading a damaged layer raises."""

_SQLITE, _FLATGEOBUF, _SHAPEFILE = b"SQLite format 3\0", b"fgb", b"\x00\x00\x27\x0a"
_MAX_KML_BYTES = 2**26  # 64 MiB
_GEOMETRIES = ["Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection"]
_GEOJSON_TYPES = frozenset((*_GEOMETRIES, "FeatureCollection", "Feature", "Topology"))
_CRS_BY_NAME = ("name", "epsg", "ogc")  # a crs of another type is an address, which GDAL would ask
_INDEX_MODULES = {"rtree", "rtree_i32", "geopoly", "fts3", "fts4", "fts5", "virtualspatialindex", "virtualelementary"}
_MODULE = re.compile(r"CREATE\s+VIRTUAL\s+TABLE\b.*?\bUSING\s+[\"'`\[]?(\w+)", re.IGNORECASE | re.DOTALL)
_READERS = re.compile(r"\b(ogr_geocode|ogr_datasource|ogr_layer_|gdal_get_|load_extension|virtualogr)", re.IGNORECASE)
_LINKS = frozenset(("networklink", "networklinkcontrol", "include"))  # elements of KML, XInclude


def open_vector(path: Path) -> Path | bytes:
    """Return what OGR may open instead of a file.

    Only formats whose files contain their features are accepted, and their content decides which one it is: GeoPackage
    and SpatiaLite, GeoJSON and TopoJSON, FlatGeobuf, Shapefile, and KML without links.

    Returns:
        The absolute path, or the content of a JSON file without what OGR would misunderstand.

    Raises:
        RequestError: the file cannot be read, has another format, or refers to other files or servers.
    """
    try:
        with open_regular(path) as file:
            start = file.read(64)
    except OSError as error:
        raise RequestError(f"the layer cannot be read: {error.strerror}", path, _HINT) from error
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
        raise RequestError(f"the layer cannot be read: {error}", path, _HINT) from error
    return path.absolute()


def _check_sqlite(path: Path) -> None:
    """Refuse tables and views that read other files."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        statements = [str(row[0]) for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    for statement in statements:
        module = _MODULE.match(statement.strip())
        if _READERS.search(statement) or (module and module[1].lower() not in _INDEX_MODULES):
            raise ValueError("it contains a table or a view that can read other files")


def _geojson(path: Path) -> bytes:
    """Return the content, written again: OGR then reads the same values as this check, each key once."""
    content = load_json(path, MAX_TABLE_BYTES, object_pairs_hook=_without_addresses)
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
