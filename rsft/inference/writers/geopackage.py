"""Write predictions as a GeoPackage with a layer, its QGIS style and a table of metadata."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pandas as pd
import pyogrio
from geopandas import GeoDataFrame

from rsft.inference.writers.map_styles import MapStyle, qml_style, sld_style

GeometryType = Literal["Point", "Polygon"]

LAYER_NAME = "predictions"
METADATA_TABLE = "rsft_metadata"

_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30),
    ui TEXT(30), update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""  # the table that QGIS creates; programs expect an empty schema and catalog
_STYLE = """
INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML,
    styleSLD, useAsDefault, description, owner) VALUES ('', '', ?, ?, 'classes', ?, ?, 1, 'One color per class', 'rsft')
"""
_REGISTER = "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES (?, 'attributes', ?)"


def write_geopackage(
    path: Path,
    table: pd.DataFrame,
    crs: str | None,
    metadata: Mapping[str, str],
    style: MapStyle | None,
    geometry_type: GeometryType = "Point",
) -> None:
    """Write a table to a new file.

    Args:
        path: path of the new file.
        table: the predictions; the column `geometry` contains shapes or None.
        crs: coordinate system of the geometries; None for pixels of the scene.
        metadata: texts that describe how the table was made.
        style: style of the layer; None for a layer without geometry.
        geometry_type: type of the geometries, if the table has no rows.
    """
    layer = table.drop(columns="geometry")
    if style is not None:
        layer = GeoDataFrame(layer, geometry=list(table["geometry"]), crs=crs)
    options = {"geometry_type": geometry_type} if table.empty else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")  # pixel coordinates have no coordinate system
        pyogrio.write_dataframe(layer, path, layer=LAYER_NAME, driver="GPKG", use_arrow=True, **options)  # keeps dates
    with closing(sqlite3.connect(path)) as database, database:
        if style is not None:
            _add_style(database, style)
        _add_metadata(database, metadata)


def read_geopackage_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of the predictions in a GeoPackage.

    Args:
        path: path of the file.

    Returns:
        The metadata; empty if the file does not exist or is not a GeoPackage of predictions.
    """
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            return dict(database.execute(f"SELECT key, value FROM {METADATA_TABLE}"))
    except sqlite3.Error:
        return {}


def _add_style(database: sqlite3.Connection, style: MapStyle) -> None:
    command = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"
    (column,) = database.execute(command, (LAYER_NAME,)).fetchone()
    database.execute(_STYLES)
    database.execute(_REGISTER, ("layer_styles", "layer_styles"))
    database.execute(_STYLE, (LAYER_NAME, column, qml_style(style), sld_style(style, LAYER_NAME)))


def _add_metadata(database: sqlite3.Connection, metadata: Mapping[str, str]) -> None:
    database.execute(
        f"CREATE TABLE {METADATA_TABLE} (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, key TEXT, value TEXT)"
    )
    database.execute(_REGISTER, (METADATA_TABLE, METADATA_TABLE))
    database.executemany(f"INSERT INTO {METADATA_TABLE} (key, value) VALUES (?, ?)", metadata.items())
