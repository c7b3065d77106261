"""Write a table of predictions as GeoPackage, GeoJSON, GeoParquet or CSV, without ever leaving an unfinished file.

A GeoPackage has a layer, its QGIS style, and a table of metadata.
"""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from geopandas import GeoDataFrame

from rsft.errors import RequestError
from rsft.inference.scenes.georeference import LONLAT
from rsft.inference.writers.map_styles import (
    CLASS_COLUMN,
    CORRECTED_COLUMN,
    MapStyle,
    Shape,
    class_colors,
    qml_style,
    sld_style,
)
from rsft.utils.atomic_files import atomic_file
from rsft.utils.tables import escape_table

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
    styleSLD, useAsDefault, description, owner)
SELECT '', '', table_name, column_name, 'classes', ?, ?, 1, 'One color per class', 'rsft' FROM gpkg_geometry_columns
"""
_REGISTER = "INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES (?, 'attributes', ?)"


class PredictionLayer(NamedTuple):
    """A table of predictions with everything that belongs into its file.

    Attributes:
        table: one row per chip; its column `geometry` contains shapes or None.
        crs: EPSG:4326; None if shapes are in pixels of the scene: column and -row, as in QGIS.
        classes: names of the classes, in the order of the bundle.
        metadata: how the table was made.
        geometry_type: type of the geometries, if the table has no rows.
        tile_step: for tiles of a grid, the step between them as a fraction of their size, at most 1; None for others.
    """

    table: pd.DataFrame
    crs: str | None
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    geometry_type: GeometryType = "Point"
    tile_step: float | None = None

    @property
    def is_spatial(self) -> bool:
        """Whether a row has a geometry, or will have one when the table gets rows."""
        return self.table.empty or bool(self.table["geometry"].notna().any())

    @property
    def style(self) -> MapStyle:
        """Colors, columns and kind of the layer."""
        types = {shape.geom_type for shape in self.table["geometry"].dropna()} or {self.geometry_type}
        shape: Shape = "point" if types == {"Point"} else "box" if self.tile_step is None else "tile"
        columns = [name for name in self.table.columns if name != "geometry"]
        return MapStyle(class_colors(self.classes), columns, shape, self.tile_step or 1.0, self.crs == LONLAT)

    def with_corrections(self) -> PredictionLayer:
        """Return the layer with an empty column `corrected` after the class, unless the positions have such a column.

        An analyst enters corrections there.
        """
        if not self.is_spatial or CORRECTED_COLUMN in {name.casefold() for name in self.table.columns}:
            return self
        table = self.table.copy(deep=False)
        empty = pd.Series(None, index=table.index, dtype=pd.ArrowDtype(pa.string()))
        table.insert(list(table.columns).index(CLASS_COLUMN) + 1, CORRECTED_COLUMN, empty)
        return self._replace(table=table)


def check_output_path(
    path: Path, columns: Iterable[str], *, overwrite: bool = False, discard_corrections: bool = False
) -> None:
    """Check that a table can be written, before a job starts.

    Args:
        path: path of the table.
        columns: names of its columns.
        overwrite: whether to replace an existing file.
        discard_corrections: whether to replace even a file in which an analyst entered corrections.

    Raises:
        RequestError: the format is unknown or does not support the columns, or the file exists.
    """
    suffix = path.suffix.lower()
    if suffix == ".shp":
        message = "a Shapefile cuts column names at 10 characters, has no NULL and ends at 2 GB"
        raise RequestError(message, path, "use .gpkg, which has none of these limits")
    if suffix not in _WRITERS:
        raise RequestError(f"unknown format: {suffix or 'no suffix'}", path, f"use {', '.join(_WRITERS)}")
    folded = [column.casefold() for column in columns]
    if suffix == ".gpkg" and len(set(folded)) < len(folded):
        repeated = sorted({column for column in folded if folded.count(column) > 1})
        message = f"a GeoPackage ignores case, so these column names are duplicates: {', '.join(repeated)}"
        raise RequestError(message, path, "use .geojson or .csv")
    if path.is_dir():
        raise RequestError("the output is a folder", path, "give the path of a file")
    for file in (path, *sidecar_paths(path)):
        if file.exists() and not overwrite:
            raise RequestError("the file exists already", file, "give --overwrite to replace it, or another name")
    if not discard_corrections and (corrections := _count_corrections(path)):
        message = f"the file contains {corrections:,} labels in its field {CORRECTED_COLUMN}, which would be lost"
        raise RequestError(
            message, path, "give another name; or keep them with rsft data add, then give --discard-corrections"
        )


def _count_corrections(path: Path) -> int:
    """Count the labels that an analyst entered in a layer. A file that cannot be read contains none."""
    if not path.exists() or path.suffix.lower() not in (".gpkg", ".geojson"):
        return 0
    try:
        layer = LAYER_NAME if path.suffix.lower() == ".gpkg" else None
        table = pyogrio.read_dataframe(path, layer, columns=[CORRECTED_COLUMN], read_geometry=False)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, UnicodeDecodeError):
        return 0
    labels = table.get(CORRECTED_COLUMN, pd.Series(dtype=str)).dropna().astype(str)
    return int((labels.str.strip() != "").sum())


def sidecar_paths(path: Path) -> list[Path]:
    """Return the files that rsft writes beside a table, in which QGIS finds its style or the types of its columns.

    Args:
        path: path of the table.
    """
    suffix = _SIDECARS.get(path.suffix.lower())
    return [path.with_suffix(suffix)] if suffix else []


def write_prediction_table(
    layer: PredictionLayer, path: Path, *, overwrite: bool = False, discard_corrections: bool = False
) -> None:
    """Write a table in the format of the suffix.

    A GeoPackage has a table of metadata, GeoJSON has a member beside the features, and GeoParquet has a schema entry.
    CSV has no metadata. A file .qml beside GeoJSON contains the style for QGIS, a file .csvt beside CSV the types of
    the columns.

    Args:
        layer: the table.
        path: path of the file.
        overwrite: whether to replace an existing file.
        discard_corrections: whether to replace even a file in which an analyst entered corrections.

    Raises:
        RequestError: see `check_output_path`.
    """
    check_output_path(path, layer.table.columns, overwrite=overwrite, discard_corrections=discard_corrections)
    _WRITERS[path.suffix.lower()](layer, path)


def _write_gpkg(layer: PredictionLayer, path: Path) -> None:
    layer = layer.with_corrections()
    frame, style = layer.table.drop(columns="geometry"), layer.style
    if layer.is_spatial:
        frame = GeoDataFrame(frame, geometry=list(layer.table["geometry"]), crs=layer.crs)
    options = {"geometry_type": layer.geometry_type} if frame.empty else {}
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in layer.metadata.items()
    }
    with atomic_file(path) as temporary:
        temporary.unlink()  # SQLite needs to create the file itself
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")  # pixel coordinates have no coordinate system
            pyogrio.write_dataframe(frame, temporary, LAYER_NAME, "GPKG", use_arrow=True, **options)  # keeps dates
        with closing(sqlite3.connect(temporary)) as database, database:
            if layer.is_spatial:
                database.execute(_STYLES)
                database.execute(_REGISTER, ("layer_styles", "layer_styles"))
                database.execute(_STYLE, (qml_style(style), sld_style(style, LAYER_NAME)))
            columns = "id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, key TEXT, value TEXT"
            database.execute(f"CREATE TABLE {METADATA_TABLE} ({columns})")
            database.execute(_REGISTER, (METADATA_TABLE, METADATA_TABLE))
            database.executemany(f"INSERT INTO {METADATA_TABLE} (key, value) VALUES (?, ?)", texts.items())


def read_geopackage_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of the predictions in a GeoPackage; empty if it is none or does not exist."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            return dict(database.execute(f"SELECT key, value FROM {METADATA_TABLE}"))
    except sqlite3.Error:
        return {}


def _write_geojson(layer: PredictionLayer, path: Path) -> None:
    has_geometry = layer.crs == LONLAT and layer.is_spatial  # RFC 7946 only allows degrees
    if has_geometry:
        layer = layer.with_corrections()
    rows = layer.table.drop(columns="geometry").astype(object)
    rows = rows.where(rows.notna() & ~rows.isin([np.inf, -np.inf]), None)  # JSON has neither NaN nor infinity
    shapes = layer.table["geometry"] if has_geometry else [None] * len(rows)
    features = [
        {"type": "Feature", "geometry": shape and json.loads(shapely.to_geojson(shape)), "properties": row}
        for row, shape in zip(rows.to_dict("records"), shapes, strict=True)
    ]
    collection = {"type": "FeatureCollection", "name": LAYER_NAME, "metadata": layer.metadata, "features": features}
    text = json.dumps(collection, ensure_ascii=False, default=lambda date: date.isoformat())
    with _table_and_sidecar(path, qml_style(layer.style) if has_geometry else None) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_parquet(layer: PredictionLayer, path: Path) -> None:
    frame = GeoDataFrame(layer.table, geometry="geometry", crs=layer.crs)
    covering = layer.is_spatial and "bbox" not in layer.table  # the name of the column that geopandas adds
    with atomic_file(path) as temporary:
        frame.to_parquet(temporary, index=False, schema_version="1.1.0", write_covering_bbox=covering)
        table = pq.read_table(temporary)
        if covering:  # GeoParquet 1.1 requires null for rows without a geometry; geopandas writes NaN
            boxes = table["bbox"].combine_chunks()
            is_missing = table["geometry"].combine_chunks().is_null()
            cleared = pa.StructArray.from_arrays(boxes.flatten(), fields=list(boxes.type), mask=is_missing)
            table = table.set_column(table.schema.get_field_index("bbox"), "bbox", cleared)
        metadata = json.dumps(layer.metadata, ensure_ascii=False).encode()
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"rsft": metadata}), temporary)


def _write_csv(layer: PredictionLayer, path: Path) -> None:
    flat = layer.table.rename(columns={"geometry": "wkt"})
    flat["wkt"] = [shape and shapely.to_wkt(shape, rounding_precision=7) for shape in layer.table["geometry"]]
    if len(flat) and flat["wkt"].isna().all():
        flat = flat.drop(columns="wkt")
    with _table_and_sidecar(path, ",".join(f'"{_csv_type(flat[name])}"' for name in flat)) as temporary:
        escape_table(flat).to_csv(temporary, index=False)


def _csv_type(column: pd.Series[Any]) -> str:
    """Return the type of a column in the words of GDAL."""
    if column.name == "wkt":
        return "WKT"
    if pd.api.types.is_bool_dtype(column):
        return "Integer(Boolean)"
    if pd.api.types.is_integer_dtype(column):
        return "Integer64"
    if pd.api.types.is_numeric_dtype(column):
        return "Real"
    return "DateTime" if pd.api.types.is_datetime64_any_dtype(column) else "String"


@contextmanager
def _table_and_sidecar(path: Path, text: str | None) -> Iterator[Path]:
    """Yield a temporary path of a table. Table and sidecar get their names together, if the block succeeds.

    Args:
        path: path of the table.
        text: content of the sidecar; None removes one of an earlier table.

    Yields:
        The temporary path of the table.
    """
    (sidecar,) = sidecar_paths(path)
    if text is None:
        with atomic_file(path) as temporary:
            yield temporary
        sidecar.unlink(missing_ok=True)
        return
    with atomic_file(sidecar) as temporary_sidecar:
        temporary_sidecar.write_text(text, encoding="utf-8")
        with atomic_file(path) as temporary:
            yield temporary


_SIDECARS = {".geojson": ".qml", ".csv": ".csvt"}
_WRITERS: dict[str, Callable[[PredictionLayer, Path], None]] = {
    ".gpkg": _write_gpkg,
    ".geojson": _write_geojson,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
}
