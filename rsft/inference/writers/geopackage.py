"""Predictions as a GeoPackage: a layer, the style that QGIS gives it, and a table of how it was made."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pyogrio
from geopandas import GeoDataFrame

from rsft.inference.writers.qgis_styles import qml, sld

LAYER, METADATA = "predictions", "rsft_metadata"

_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30),
    ui TEXT(30), update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))
)
"""  # as QGIS makes it; a program looks for an empty schema and catalogue
_STYLE = """
INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML,
    styleSLD, useAsDefault, description, owner) VALUES ('', '', ?, ?, 'classes', ?, ?, 1, 'A colour a class', 'rsft')
"""
_REGISTER = "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES (?, 'attributes', ?)"


def write_geopackage(
    path: Path, table: pd.DataFrame, crs: str | None, metadata: Mapping[str, str], colours: Mapping[str, str]
) -> None:
    """Write `table` with its column `geometry` to a new file; without any outline it is a table, and has no style.

    Args:
        crs: of the geometries; None for pixels of the scene.
        colours: by class.
    """
    located = table["geometry"].notna()
    layer = table.drop(columns="geometry")
    if located.any():
        layer = GeoDataFrame(layer, geometry=list(table["geometry"]), crs=crs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")  # pixels have none
        pyogrio.write_dataframe(layer, path, layer=LAYER, driver="GPKG")
    with closing(sqlite3.connect(path)) as database, database:
        if located.any():
            points = bool((table["geometry"][located].map(lambda shape: shape.geom_type) == "Point").all())
            _add_style(database, colours, points)
        _add_metadata(database, metadata)


def read_metadata(path: Path) -> dict[str, str]:
    """How the predictions in a GeoPackage were made; nothing where it is another file."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            return dict(database.execute(f"SELECT key, value FROM {METADATA}"))
    except sqlite3.Error:
        return {}


def _add_style(database: sqlite3.Connection, colours: Mapping[str, str], points: bool) -> None:
    command = "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?"
    (column,) = database.execute(command, (LAYER,)).fetchone()
    database.execute(_STYLES)
    database.execute(_REGISTER, ("layer_styles", "layer_styles"))
    database.execute(_STYLE, (LAYER, column, qml(colours, points), sld(colours, points, LAYER)))


def _add_metadata(database: sqlite3.Connection, metadata: Mapping[str, str]) -> None:
    database.execute(f"CREATE TABLE {METADATA} (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, key TEXT, value TEXT)")
    database.execute(_REGISTER, (METADATA, METADATA))
    database.executemany(f"INSERT INTO {METADATA} (key, value) VALUES (?, ?)", metadata.items())
