"""Write a table of predictions in the format of its suffix, whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from rsft.errors import RequestError
from rsft.inference.writers.layer import CORRECTED_COLUMN, PredictionLayer
from rsft.inference.writers.table_format import TableFormat, find_table_format
from rsft.utils.atomic_files import check_is_free


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
    table_format = find_table_format(path)
    table_format.check(path, columns)
    _check_is_free(path, overwrite)
    if table_format.sidecar:
        _check_is_free(path.with_suffix(table_format.sidecar), overwrite)
    corrections = _count_corrections(path, table_format)
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
    check_is_free(path, overwrite)


def _count_corrections(path: Path, table_format: TableFormat) -> int:
    """Count the labels that an analyst entered in a layer.

    A file that cannot be read contains none.
    """
    labels = []
    with suppress(
        sqlite3.Error, OSError, ValueError, LookupError, TypeError, AttributeError
    ):
        if path.is_file():
            labels = table_format.find_corrections(path)
    return sum(label is not None and str(label).strip() != "" for label in labels)


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
    find_table_format(path).write(layer, path)
