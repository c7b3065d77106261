"""Write a table of predictions as GeoPackage, GeoJSON, GeoParquet, CSV, Excel or labels, never an unfinished file.

A GeoPackage has a layer, its styles, and a table of metadata. Styles have one color per
class: style.qml for QGIS, style.sld for other programs.
"""

from __future__ import annotations

import json
import sqlite3
import sys
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

_SELECT_CORRECTIONS = (
    f"SELECT {CORRECTED_COLUMN} FROM {LAYER_NAME} WHERE '{CORRECTED_COLUMN}' IN "
)
_SELECT_CORRECTIONS += (  # elsewhere SQLite ignores case
    f"(SELECT name FROM pragma_table_info('{LAYER_NAME}'))"
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
    if path.is_dir():
        raise RequestError("the output is a folder", path, "give the path of a file")
    if path.exists() and not overwrite:
        raise RequestError(
            "the file exists already",
            path,
            "give --overwrite to replace it, or another name",
        )


def check_output_path(
    path: Path,
    columns: Iterable[str],
    *,
    overwrite: bool = False,
    discard_corrections: bool = False,
) -> None:
    """Check that a table can be written, before a job starts.

    Args:
        path: path of the table.
        columns: names of its columns.
        overwrite: whether to replace an existing file.
        discard_corrections: whether to replace even a file in which an analyst entered
            corrections.

    Raises:
        RequestError: the format is unknown or does not support the columns, or the file
            exists.
    """
    suffix = table_suffix(path)
    if suffix == ".shp":
        message = (
            "a Shapefile cuts column names at 10 characters, has no NULL and ends at"
            " 2 GB"
        )
        raise RequestError(message, path, "use .gpkg, which has none of these limits")
    if suffix not in _WRITERS:
        raise RequestError(
            f"unknown format: {suffix or 'no suffix'}",
            path,
            f"use {', '.join(_WRITERS)}",
        )
    if suffix == ".xlsx":
        check_installed("excel", "openpyxl")
    folded = [column.casefold() for column in columns]
    if suffix == ".gpkg" and len(set(folded)) < len(folded):
        repeated = sorted({column for column in folded if folded.count(column) > 1})
        message = (
            "a GeoPackage ignores case, so these column names are duplicates:"
            f" {', '.join(repeated)}"
        )
        raise RequestError(message, path, "use .geojson or .csv")
    if path.is_dir():
        raise RequestError("the output is a folder", path, "give the path of a file")
    for file in (path, *sidecar_paths(path)):
        if file.exists() and not overwrite:
            raise RequestError(
                "the file exists already",
                file,
                "give --overwrite to replace it, or another name",
            )
    if not discard_corrections and (corrections := _count_corrections(path)):
        message = (
            f"the file contains {corrections:,} labels in its field {CORRECTED_COLUMN},"
            " which would be lost"
        )
        raise RequestError(
            message,
            path,
            (
                "give another name; or keep them with rsft data add, then give"
                " --discard-corrections"
            ),
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
    with suppress(
        sqlite3.Error, OSError, ValueError, LookupError, TypeError, AttributeError
    ):
        if path.suffix.lower() == ".gpkg" and path.is_file():
            labels = [label for (label,) in select_rows(path, _SELECT_CORRECTIONS)]
        elif path.suffix.lower() == ".geojson":
            features = load_json(path, sys.maxsize)["features"]
            labels = [
                feature["properties"].get(CORRECTED_COLUMN) for feature in features
            ]
    return sum(label is not None and str(label).strip() != "" for label in labels)


def sidecar_paths(path: Path) -> list[Path]:
    """Return the files that rsft writes beside a table, in which QGIS finds its style or the types of its columns."""
    suffix = _SIDECARS.get(path.suffix.lower())
    if suffix:
        return [path.with_suffix(suffix)]
    return []


def write_prediction_table(
    layer: PredictionLayer,
    path: Path,
    *,
    overwrite: bool = False,
    discard_corrections: bool = False,
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
        discard_corrections: whether to replace even a file in which an analyst entered
            corrections.

    Raises:
        RequestError: see `check_output_path`.
    """
    check_output_path(
        path,
        layer.table.columns,
        overwrite=overwrite,
        discard_corrections=discard_corrections,
    )
    _WRITERS[table_suffix(path)](layer, path)


def table_suffix(path: Path) -> str:
    """Return the suffix of a table, which selects its format, in lower case: `.coco.json` of `out.coco.json`."""
    return next(
        (suffix for suffix in _WRITERS if path.name.lower().endswith(suffix)),
        path.suffix.lower(),
    )


def _write_geojson(layer: PredictionLayer, path: Path) -> None:
    has_geometry = (
        layer.crs == LONLAT and layer.is_spatial
    )  # RFC 7946 only allows degrees
    if has_geometry:
        layer = layer.with_corrections()
    rows = without_nan(layer.table.drop(columns="geometry"))
    shapes = layer.table["geometry"] if has_geometry else [None] * len(rows)
    features = [
        {
            "type": "Feature",
            "geometry": shape and json.loads(shapely.to_geojson(shape)),
            "properties": row,
        }
        for row, shape in zip(rows.to_dict("records"), shapes, strict=True)
    ]
    collection = {
        "type": "FeatureCollection",
        "name": LAYER_NAME,
        "metadata": layer.metadata,
        "features": features,
    }
    text = json.dumps(
        collection, ensure_ascii=False, default=lambda date: date.isoformat()
    )
    with _table_and_sidecar(
        path, qml_style(layer) if has_geometry else None
    ) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_parquet(layer: PredictionLayer, path: Path) -> None:
    import pyarrow.parquet as pq
    from geopandas import GeoDataFrame

    covering = (
        layer.is_spatial and "bbox" not in layer.table
    )  # the name of the column that geopandas adds
    plain = (
        pa.BufferOutputStream()
    )  # without metadata of rsft, which geopandas does not write
    options = {
        "schema_version": "1.1.0",
        "write_covering_bbox": covering,
        "row_group_size": _ROW_GROUP,
    }
    GeoDataFrame(layer.table, geometry="geometry", crs=layer.crs).to_parquet(
        plain, index=False, **options
    )
    source = pq.ParquetFile(plain.getvalue())
    metadata = json.dumps(layer.metadata, ensure_ascii=False).encode()
    schema = source.schema_arrow.with_metadata(
        {**source.schema_arrow.metadata, b"rsft": metadata}
    )
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for group in range(source.num_row_groups):
            rows = source.read_row_group(group)
            # GeoParquet 1.1 requires null for rows without a geometry; geopandas writes
            # NaN
            if covering:
                boxes = rows["bbox"].combine_chunks()
                shapes = rows["geometry"].combine_chunks()
                cleared = pa.StructArray.from_arrays(
                    boxes.flatten(), fields=list(boxes.type), mask=shapes.is_null()
                )
                rows = rows.set_column(
                    rows.schema.get_field_index("bbox"), "bbox", cleared
                )
            writer.write_table(rows.cast(schema))


def _write_csv(layer: PredictionLayer, path: Path) -> None:
    flat = with_wkt(layer)
    types = [
        "WKT" if name == "wkt" else _CSV_TYPES.get(flat[name].dtype.kind, "String")
        for name in flat
    ]
    with _table_and_sidecar(
        path, ",".join(f'"{type_}"' for type_ in types)
    ) as temporary:
        escape_table(flat).to_csv(temporary, index=False)


def _write_coco(layer: PredictionLayer, path: Path) -> None:
    content = coco_content(layer.table, layer.boxes, layer.classes)
    _write_json(
        {"info": {"description": "predictions of rsft", **layer.metadata}, **content},
        path,
    )


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
