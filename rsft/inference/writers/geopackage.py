"""Write a GeoPackage with a layer, its styles and a table of metadata."""

from __future__ import annotations

import json
import sqlite3
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rsft.errors import RequestError
from rsft.inference.writers.layer import (
    CORRECTED_COLUMN,
    LAYER_NAME,
    PredictionLayer,
)
from rsft.inference.writers.styles import qml_style
from rsft.inference.writers.table_format import TABLE_FORMATS, TableFormat
from rsft.types import JsonObject
from rsft.utils.atomic_files import atomic_file

METADATA_TABLE = "rsft_metadata"

# the table that QGIS creates; programs expect an empty schema and catalog
_CREATE_LAYER_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),
    f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
    useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
    update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""
_STYLE = """
INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name,
    f_geometry_column, styleName, styleQML, useAsDefault, description, owner)
SELECT '', '', table_name, column_name, 'classes', ?, 1, 'One color per class', 'rsft'
FROM gpkg_geometry_columns WHERE table_name = ?
"""
# elsewhere SQLite ignores case
_SELECT_CORRECTIONS = (
    f"SELECT {CORRECTED_COLUMN} FROM {LAYER_NAME} WHERE '{CORRECTED_COLUMN}' IN"
    f" (SELECT name FROM pragma_table_info('{LAYER_NAME}'))"
)
_REGISTER_TABLE = (
    "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES (?,"
    " 'attributes', ?)"
)


@TABLE_FORMATS.register
class GeoPackage(TableFormat):
    """GeoPackage with a layer, its styles and its metadata."""

    name = "gpkg"

    def check(self, path: Path, columns: Iterable[str]) -> None:
        counts = Counter(column.casefold() for column in columns)
        repeated = sorted(name for name, count in counts.items() if count > 1)
        if repeated:
            raise RequestError(
                "a GeoPackage ignores case, so these column names are duplicates:"
                f" {', '.join(repeated)}",
                path,
                "use .geojson or .csv",
            )

    def write(self, layer: PredictionLayer, path: Path) -> None:
        # has a second GDAL: not imported before the weights of the engine are released
        import pyogrio
        from geopandas import GeoDataFrame

        layer = layer.with_corrections()
        frame = layer.table.drop(columns="geometry")
        if layer.is_spatial:
            frame = GeoDataFrame(
                frame, geometry=list(layer.table["geometry"]), crs=layer.crs
            )
        options: dict[str, Any] = {"use_arrow": True}  # keeps dates
        if frame.empty:
            options["geometry_type"] = layer.geometry_type
        styles = {}
        if layer.is_spatial:
            styles[LAYER_NAME] = qml_style(layer)
        with atomic_file(path) as temporary:
            temporary.unlink()  # SQLite needs to create the file itself
            with warnings.catch_warnings():
                # pixel coordinates have no coordinate system
                warnings.filterwarnings("ignore", "'crs' was not provided")
                pyogrio.write_dataframe(frame, temporary, LAYER_NAME, "GPKG", **options)
            add_geopackage_tables(temporary, layer.metadata, styles)

    def find_corrections(self, path: Path) -> list[Any]:
        return [label for (label,) in select_rows(path, _SELECT_CORRECTIONS)]


def add_geopackage_tables(
    path: Path,
    metadata: JsonObject,
    styles: Mapping[str, str],
) -> None:
    """Add the tables of styles and of metadata to a GeoPackage.

    Args:
        path: the GeoPackage.
        metadata: texts, and values that become JSON.
        styles: QML of each layer by its name.
    """
    texts = dict(metadata)
    for key, value in metadata.items():
        if not isinstance(value, str):
            texts[key] = json.dumps(value, ensure_ascii=False)
    with closing(sqlite3.connect(path)) as database, database:
        if styles:
            database.execute(_CREATE_LAYER_STYLES)
            database.execute(_REGISTER_TABLE, ("layer_styles", "layer_styles"))
            rows = [(qml, layer) for layer, qml in styles.items()]
            database.executemany(_STYLE, rows)
        columns = "id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, key TEXT, value TEXT"
        database.execute(f"CREATE TABLE {METADATA_TABLE} ({columns})")
        database.execute(_REGISTER_TABLE, (METADATA_TABLE, METADATA_TABLE))
        database.executemany(
            f"INSERT INTO {METADATA_TABLE} (key, value) VALUES (?, ?)", texts.items()
        )


def read_geopackage_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of the predictions in a GeoPackage.

    They are empty if the file has none or does not exist.
    """
    query = f"SELECT key, value FROM {METADATA_TABLE}"
    try:
        return dict(select_rows(path, query, seconds=10))
    except sqlite3.Error:
        return {}


def select_rows(path: Path, query: str, seconds: float = float("inf")) -> list[Any]:
    """Return the rows of a query, which is stopped after `seconds`."""
    address = f"file:{quote(str(path))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as database:
        # the table may be a view of a stranger
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2**28)
        deadline = time.monotonic() + seconds
        database.set_progress_handler(lambda: int(time.monotonic() > deadline), 100_000)
        return database.execute(query).fetchall()
