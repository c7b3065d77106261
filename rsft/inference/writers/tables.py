"""Write a table of predictions in the format of its suffix, whole or not at all.

The formats are GeoPackage, GeoJSON, GeoParquet, CSV, Excel, and those of labeling
tools.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import shapely

from rsft.errors import RequestError
from rsft.inference.writers.excel import check_sheet_size, write_excel
from rsft.inference.writers.geopackage import (
    select_rows,
    write_geopackage,
)
from rsft.inference.writers.layer import (
    CORRECTED_COLUMN,
    LAYER_NAME,
    PredictionLayer,
    with_wkt,
    without_nan,
)
from rsft.inference.writers.pre_annotations import (
    coco_content,
    label_studio_content,
)
from rsft.inference.writers.styles import qml_style
from rsft.types import LONLAT
from rsft.utils.atomic_files import atomic_file
from rsft.utils.dependencies import check_installed
from rsft.utils.tables import escape_table
from rsft.utils.untrusted.documents import load_json

_CSV_TYPES = {
    "b": "Integer(Boolean)",
    "i": "Integer64",
    "u": "Integer64",
    "f": "Real",
    "M": "DateTime",
}
"""GDAL's names of the types of columns, by the kind of their NumPy or pandas type."""

# elsewhere SQLite ignores case
_SELECT_CORRECTIONS = (
    f"SELECT {CORRECTED_COLUMN} FROM {LAYER_NAME} WHERE '{CORRECTED_COLUMN}' IN"
    f" (SELECT name FROM pragma_table_info('{LAYER_NAME}'))"
)
# rows of a table in Parquet that are in memory once more while they are written
_ROW_GROUP = 32_768


def check_output_file(path: Path, suffixes: Sequence[str], overwrite: bool) -> None:
    """Check that an output can be written.

    Args:
        path: path of the output.
        suffixes: the suffixes that it may have.
        overwrite: whether to replace an existing file.

    Raises:
        RequestError: the suffix is another one, the path is a folder, or the file
            exists.
    """
    if path.suffix.lower() not in suffixes:
        raise RequestError(
            f"the output must be a {suffixes[0]} file",
            path,
            f"give it the suffix {suffixes[0]}",
        )
    _check_is_free(path, overwrite)


def check_output_path(
    path: Path,
    columns: Iterable[str],
    *,
    overwrite: bool = False,
) -> None:
    """Check that a table can be written, before a job starts.

    Args:
        path: path of the table.
        columns: names of its columns.
        overwrite: whether to replace an existing file.

    Raises:
        RequestError: the format is unknown or does not support the columns, or the file
            exists.
    """
    _check_format(path, columns)
    for file in (path, *sidecar_paths(path)):
        _check_is_free(file, overwrite)
    corrections = _count_corrections(path)
    if corrections:
        raise RequestError(
            f"the file contains {corrections:,} labels in its field {CORRECTED_COLUMN},"
            " which would be lost",
            path,
            "give another name; or keep them with rsft data add, and delete the file",
        )


def _check_is_free(path: Path, overwrite: bool) -> None:
    """Raise a RequestError if a path is a folder, or a file that must stay."""
    if path.is_dir():
        raise RequestError("the output is a folder", path, "give the path of a file")
    if path.exists() and not overwrite:
        raise RequestError(
            "the file exists already",
            path,
            "give --overwrite to replace it, or another name",
        )


def _check_format(path: Path, columns: Iterable[str]) -> None:
    """Raise a RequestError if a format is unknown or does not support the columns."""
    suffix = table_suffix(path)
    if suffix == ".shp":
        raise RequestError(
            "a Shapefile cuts column names at 10 characters, has no NULL and ends at"
            " 2 GB",
            path,
            "use .gpkg, which has none of these limits",
        )
    if suffix not in _WRITERS:
        raise RequestError(
            f"unknown format: {suffix or 'no suffix'}",
            path,
            f"use {', '.join(_WRITERS)}",
        )
    if suffix == ".xlsx":
        check_installed("excel", "openpyxl")
    if suffix == ".gpkg":
        counts = Counter(column.casefold() for column in columns)
        repeated = sorted(name for name, count in counts.items() if count > 1)
        if repeated:
            raise RequestError(
                "a GeoPackage ignores case, so these column names are duplicates:"
                f" {', '.join(repeated)}",
                path,
                "use .geojson or .csv",
            )


def check_table_size(path: Path, rows: int, columns: int) -> None:
    """Check that the format of a table can have so many rows and columns.

    Raises:
        RequestError: they do not fit on a sheet of Excel.
    """
    if table_suffix(path) == ".xlsx":
        check_sheet_size(path, rows, columns)


def _count_corrections(path: Path) -> int:
    """Count the labels that an analyst entered in a layer.

    A file that cannot be read contains none.
    """
    labels: list[Any] = []
    suffix = path.suffix.lower()
    with suppress(
        sqlite3.Error, OSError, ValueError, LookupError, TypeError, AttributeError
    ):
        if suffix == ".gpkg" and path.is_file():
            labels = [label for (label,) in select_rows(path, _SELECT_CORRECTIONS)]
        elif suffix == ".geojson":
            for feature in load_json(path, sys.maxsize)["features"]:
                labels.append(feature["properties"].get(CORRECTED_COLUMN))
    return sum(label is not None and str(label).strip() != "" for label in labels)


def sidecar_paths(path: Path) -> list[Path]:
    """Return the files beside a table in which QGIS finds its style or types."""
    suffix = _SIDECARS.get(path.suffix.lower())
    return [path.with_suffix(suffix)] if suffix else []


def write_prediction_table(
    layer: PredictionLayer,
    path: Path,
    *,
    overwrite: bool = False,
) -> None:
    """Write a table in the format of the suffix.

    A GeoPackage has a table of metadata, GeoJSON has a member beside the features, and
    GeoParquet has a schema entry. CSV and Excel have no metadata. A file .qml beside
    GeoJSON contains the style for QGIS, a file .csvt beside CSV the types of the
    columns. Formats of labeling tools have the boxes in pixels, the classes and the
    scores.

    Args:
        layer: the table.
        path: path of the file.
        overwrite: whether to replace an existing file.

    Raises:
        RequestError: see `check_output_path`.
    """
    check_output_path(path, layer.table.columns, overwrite=overwrite)
    _WRITERS[table_suffix(path)](layer, path)


def table_suffix(path: Path) -> str:
    """Return the suffix of a table in lower case, which selects its format.

    That of `out.coco.json` is `.coco.json`.
    """
    name = path.name.lower()
    for suffix in _WRITERS:
        if name.endswith(suffix):
            return suffix
    return path.suffix.lower()


def _write_geojson(layer: PredictionLayer, path: Path) -> None:
    style = None
    shapes: Any = [None] * len(layer.table)
    if layer.crs == LONLAT and layer.is_spatial:  # RFC 7946 only allows degrees
        layer = layer.with_corrections()
        style = qml_style(layer)
        shapes = layer.table["geometry"]
    rows = without_nan(layer.table.drop(columns="geometry")).to_dict("records")
    features = []
    for row, shape in zip(rows, shapes, strict=True):
        geometry = shape and json.loads(shapely.to_geojson(shape))
        features.append({"type": "Feature", "geometry": geometry, "properties": row})
    collection = {
        "type": "FeatureCollection",
        "name": LAYER_NAME,
        "metadata": layer.metadata,
        "features": features,
    }
    with _table_and_sidecar(path, style) as temporary:
        text = json.dumps(collection, ensure_ascii=False, default=_format_date)
        temporary.write_text(text, encoding="utf-8")


def _format_date(value: Any) -> Any:
    return value.isoformat()


def _write_parquet(layer: PredictionLayer, path: Path) -> None:
    import pyarrow.parquet as pq
    from geopandas import GeoDataFrame

    # unless the table has the name of the column that geopandas adds
    covering = layer.is_spatial and "bbox" not in layer.table
    # without metadata of rsft, which geopandas does not write
    plain = pa.BufferOutputStream()
    frame = GeoDataFrame(layer.table, geometry="geometry", crs=layer.crs)
    frame.to_parquet(
        plain,
        index=False,
        schema_version="1.1.0",
        write_covering_bbox=covering,
        row_group_size=_ROW_GROUP,
    )
    source = pq.ParquetFile(plain.getvalue())
    metadata = dict(source.schema_arrow.metadata)
    metadata[b"rsft"] = json.dumps(layer.metadata, ensure_ascii=False).encode()
    schema = source.schema_arrow.with_metadata(metadata)
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for group in range(source.num_row_groups):
            rows = source.read_row_group(group)
            if covering:
                rows = _clear_boxes(rows)
            writer.write_table(rows.cast(schema))


def _clear_boxes(rows: pa.Table) -> pa.Table:
    """Return rows with null as the box of a row without a geometry.

    GeoParquet 1.1 requires it; geopandas writes NaN.
    """
    boxes = rows["bbox"].combine_chunks()
    is_missing = rows["geometry"].combine_chunks().is_null()
    cleared = pa.StructArray.from_arrays(
        boxes.flatten(), fields=list(boxes.type), mask=is_missing
    )
    return rows.set_column(rows.schema.get_field_index("bbox"), "bbox", cleared)


def _write_csv(layer: PredictionLayer, path: Path) -> None:
    flat = with_wkt(layer)
    types = []
    for name in flat:
        kind = _CSV_TYPES.get(flat[name].dtype.kind, "String")
        types.append('"WKT"' if name == "wkt" else f'"{kind}"')
    with _table_and_sidecar(path, ",".join(types)) as temporary:
        escape_table(flat).to_csv(temporary, index=False)


def _write_coco(layer: PredictionLayer, path: Path) -> None:
    info = {"description": "predictions of rsft", **layer.metadata}
    content = coco_content(layer.table, layer.boxes, layer.classes)
    _write_json({"info": info, **content}, path)


def _write_label_studio(layer: PredictionLayer, path: Path) -> None:
    version = str(layer.metadata.get("bundle_sha256", "rsft"))[:12]
    _write_json(label_studio_content(layer.table, layer.boxes, version), path)


def _write_json(content: Any, path: Path) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(
            json.dumps(content, ensure_ascii=False, default=str), encoding="utf-8"
        )


@contextmanager
def _table_and_sidecar(path: Path, text: str | None) -> Iterator[Path]:
    """Yield a temporary path of a table.

    Table and sidecar get their names together, if the block succeeds.

    The text is the content of the sidecar; None removes one of an earlier table.
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
    ".gpkg": write_geopackage,
    ".geojson": _write_geojson,
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".xlsx": write_excel,
    ".coco.json": _write_coco,
    ".labelstudio.json": _write_label_studio,
}
