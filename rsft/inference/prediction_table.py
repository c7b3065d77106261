"""Read the tables of `rsft predict`, also as other programs have saved them."""

import csv
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import shapely

from rsft.data.imagery.vectors import READ_ERRORS, read_layer
from rsft.errors import RequestError
from rsft.inference.writers.geopackage import METADATA_TABLE, read_geopackage_metadata
from rsft.inference.writers.layer import LAYER_NAME
from rsft.types import JsonObject
from rsft.utils.parquet_files import read_parquet
from rsft.utils.untrusted.documents import MAX_TABLE_BYTES, load_json, parse_json
from rsft.utils.untrusted.text_tables import read_text_table

_OTHER_TABLES = frozenset((METADATA_TABLE, "layer_styles"))


def read_table_file(path: Path, hint: str) -> tuple[pd.DataFrame, JsonObject]:
    """Read all columns of a table in any format of `rsft predict`.

    Other programs may have saved it again.

    Args:
        path: GeoPackage, GeoJSON, GeoParquet or CSV (with commas, semicolons or tabs).
        hint: what to give instead of a file that does not exist or has another format.

    Returns:
        The columns, with `geometry` (shapes) and `_line` (line of a CSV table, feature
        id of a GeoPackage, else the number of the row from 1), and the metadata of the
        predictions. All columns of CSV are texts.

    Raises:
        RequestError: the file does not exist, has another format, or cannot be read.
    """
    suffix = path.suffix.lower()
    if not path.exists():
        raise RequestError("no such file", path, hint)
    if suffix not in _READERS or not path.is_file():
        raise RequestError(
            f"unknown format: {suffix or 'no suffix'}",
            path,
            f"{hint}: .gpkg, .geojson, .parquet or .csv",
        )
    try:
        return _READERS[suffix](path)
    except (
        *READ_ERRORS,
        pa.ArrowException,
        csv.Error,
        OSError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        text = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RequestError(
            f"the table cannot be read: {text}", path, "save it again, CSV in UTF-8"
        ) from error


def text_cells(frame: pd.DataFrame, name: str) -> list[str]:
    """Return the cells of a column as texts.

    Empty cells and those of a missing column are "".

    Whole numbers that a program saved as floats have no decimals: classes may be
    numbers.
    """
    texts = []
    for cell in frame.get(name, [None] * len(frame)):
        if isinstance(cell, float) and cell.is_integer():
            cell = int(cell)
        is_missing = pd.api.types.is_scalar(cell) and pd.isna(cell)
        texts.append("" if is_missing else str(cell).strip())
    return texts


def number_cells(frame: pd.DataFrame, name: str) -> list[float]:
    """Return the cells of a column as numbers.

    Other cells and those of a missing column are NaN.

    Numbers in texts may have decimal commas, if a spreadsheet saved them.
    """
    texts = pd.Series(text_cells(frame, name), dtype=str).str.replace(",", ".")
    return list(pd.to_numeric(texts, errors="coerce").astype(float))


def _read_csv(path: Path) -> tuple[pd.DataFrame, JsonObject]:
    cells = read_text_table(path).cells
    frame = cells.loc[:, ~cells.columns.duplicated()].reset_index(drop=True)
    if "wkt" in frame:
        shapes = [shapely.from_wkt(text) if text else None for text in frame["wkt"]]
        frame["geometry"] = pd.Series(shapes, frame.index, object)
    return frame.assign(_line=cells.index), {}


def _read_gpkg(path: Path) -> tuple[pd.DataFrame, JsonObject]:
    layers, features = read_layer(path, LAYER_NAME)
    names = [name for name in layers if name not in _OTHER_TABLES]
    if not features and len(names) == 1:
        _, features = read_layer(path, names[0])
    if not features:
        raise ValueError(
            f"{len(names)} layers: {', '.join(names)}; rename the corrected one to"
            f" {LAYER_NAME}"
        )
    frame = features.table.to_pandas(ignore_metadata=True)
    if not set(frame.columns[1:]) <= set(features.fields):
        frame["geometry"] = shapely.from_wkb(frame.pop(frame.columns[-1]))
    frame = frame.rename(columns={frame.columns[0]: "_line"})
    texts = read_geopackage_metadata(path)
    metadata = {
        key: parse_json(text) if text[:1] in ("[", "{") else text
        for key, text in texts.items()
    }
    return frame, metadata


def _read_geojson(path: Path) -> tuple[pd.DataFrame, JsonObject]:
    content = load_json(path, MAX_TABLE_BYTES)
    rows = []
    for number, feature in enumerate(content["features"], 1):
        geometry = feature.get("geometry")
        if geometry is None:
            shape = None
        else:
            shape = shapely.from_geojson(json.dumps(geometry))
        rows.append(
            feature.get("properties", {}) | {"_line": number, "geometry": shape}
        )
    metadata = content.get("metadata")
    return pd.DataFrame(rows, dtype=object), (
        metadata if isinstance(metadata, dict) else {}
    )


def _read_parquet(path: Path) -> tuple[pd.DataFrame, JsonObject]:
    table = read_parquet(path)
    frame = table.replace_schema_metadata().to_pandas()
    if "geometry" in frame:
        frame["geometry"] = [
            None if value is None else shapely.from_wkb(value)
            for value in frame["geometry"]
        ]
    metadata = (table.schema.metadata or {}).get(b"rsft", b"{}")
    return frame.assign(_line=range(1, len(frame) + 1)), parse_json(metadata)


_READERS = {
    ".csv": _read_csv,
    ".gpkg": _read_gpkg,
    ".geojson": _read_geojson,
    ".json": _read_geojson,
    ".parquet": _read_parquet,
}
