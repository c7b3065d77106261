"""The manifest of a chip store: its columns, their checks, and its rows.

The manifest has one row per chip.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rsft.errors import DataError
from rsft.types import JsonObject
from rsft.utils.parquet_files import read_parquet_header, read_parquet_parts
from rsft.utils.tables import Column, check_columns

SPLITS = ("train", "val", "test")
PROVENANCE = {
    "added_from": pa.string(),  # table with the label
    "added_bundle": pa.string(),  # SHA-256 of the bundle that had classified the chip
    "added_predicted": pa.string(),  # class that it had predicted
    # class of the chip in the store before, if it had one
    "added_previous": pa.string(),
    "added_on": pa.string(),  # date and time
}
"""Optional columns of the manifest: where rows come from that were added to a finished
store, or got another class."""

CLASS_COLUMN = Column("class")
_COLUMNS = [
    *(Column(name) for name in ("name", "path", "unit", "bands")),
    CLASS_COLUMN,
    Column("split", choices=SPLITS),
    *(
        Column(name, optional=True)
        for name in (
            "group",
            "group_key",
            "source",
            "sensor",
            "flags",
            "polarisation",
            "mmsi",
            "sha256",
        )
    ),
    *(
        Column(name, "finite number", optional=True)
        for name in ("spacing_m", "incidence_deg")
    ),
    *(Column(name, optional=True, required=False) for name in PROVENANCE),
]
_SHOWN = 60  # letters of a cell in a message


def check_manifest_columns(table: pd.DataFrame) -> None:
    """Check the types and the ranges of the cells of a manifest.

    Raises:
        ValueError: a column is missing or occurs twice, or a cell is wrong. The text
            names the row (its index + 1) and the column.
    """
    if table.columns.has_duplicates:
        raise ValueError(
            f"two columns are called {table.columns[table.columns.duplicated()][0]}"
        )
    check_columns(table, _COLUMNS)
    hashes = _filled_cells(table["sha256"]).astype(str)
    _check_cells(table["sha256"], ~hashes.str.fullmatch("(?i)[0-9a-f]{64}"), _SHA256)
    angles = _filled_cells(table["incidence_deg"]).astype(float)
    _check_cells(table["incidence_deg"], ~angles.between(-90, 90), _ANGLE)
    boxes = _filled_cells(table["box"])
    if len(boxes) and not _are_boxes(boxes):
        _check_cells(table["box"], boxes.map(lambda box: not _are_boxes([box])), _BOX)


def _filled_cells(column: pd.Series) -> pd.Series:
    cells = column.dropna()
    # a table that was edited as text has empty texts in all its columns
    return cells[[not isinstance(cell, str) or cell != "" for cell in cells]]


def check_chip_path(path: object) -> None:
    """Check that the path of a chip in a manifest lies in its store.

    Raises:
        ValueError: the path is not a text, is absolute, or leaves the store.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError("has no path of a chip")
    name = PurePosixPath(path.replace("\\", "/"))
    if name.is_absolute() or PureWindowsPath(path).drive or ".." in name.parts:
        raise ValueError(f"leaves the store: {path[:200]}")


def describe_column_fault(row: JsonObject) -> str:
    """Return why the columns of a new chip cannot be stored, or "" if they can."""
    angle = row.get("incidence_deg")
    box = row.get("box")
    if angle is not None and not (math.isnan(angle) or -90 <= angle <= 90):
        return f"incidence_deg is {angle:g}, expected {_ANGLE}"
    if box is not None and not _are_boxes([box]):
        return f"box is {str(box)[:_SHOWN]}, expected {_BOX}"
    return ""


_SHA256 = "64 hexadecimal digits"
_ANGLE = "an angle from -90 to 90"
_BOX = "8 finite numbers"


def _check_cells(
    column: pd.Series[Any], is_wrong: pd.Series[bool], expected: str
) -> None:
    """Raise an error that names the first wrong cell.

    `is_wrong` has no rows for empty cells.
    """
    wrong = is_wrong[is_wrong.astype(bool)]
    if len(wrong):
        row = wrong.index[0]
        cell = column[row]
        found = (repr(cell) if isinstance(cell, str) else str(cell))[:_SHOWN]
        raise ValueError(
            f"row {row + 1:,}, column {column.name}: found {found}, expected {expected}"
        )


def _are_boxes(cells: Iterable[Any]) -> bool:
    """Return whether all cells are 8 finite numbers.

    This is much faster than a test of each cell.
    """
    try:
        numbers = np.stack(list(cells))
        return (
            numbers.shape[1:] == (8,)
            and numbers.dtype.kind in "fiu"
            and bool(np.isfinite(numbers).all())
        )
    except (ValueError, TypeError):
        return False


ROW_GROUP = 4000
"""Rows of a manifest that are written and read at the same time."""

MANIFEST = "manifest.parquet"
_TYPES = {
    "spacing_m": pa.float64(),
    "incidence_deg": pa.float64(),
    "box": pa.list_(pa.float64()),
}
_NAMES = (
    "name",
    "path",
    "split",
    "class",
    "group",
    "group_key",
    "source",
    "sensor",
    "unit",
    "bands",
    "spacing_m",
    "polarisation",
    "incidence_deg",
    "mmsi",
    "box",
    "sha256",
    "flags",
)
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in _NAMES])
"""Columns of the manifest. `path` is relative to the root; `group_key` is a scene or
vessel, which two splits must not share; `spacing_m` is the pixel spacing, the mean of
both directions; `box` is x1 y1 ... x4 y4 in pixels of the chip; `bands` and `flags` are
joined by commas."""

OBJECT_COLUMNS = {
    **{
        "acquired": pa.string(),
        "pass_direction": pa.string(),
        "source_row": pa.int64(),
    },
    **dict.fromkeys(
        (
            "row",
            "col",
            "lon",
            "lat",
            "length_m",
            "width_m",
            "heading_deg",
            "ais_confidence",
        ),
        pa.float64(),
    ),
}
"""Further columns of chips that rsft cut from a scene.

Time in UTC; the number of the object in its file; its place in pixels of the scene and
in degrees; length, width and direction (clockwise from north, 0 to 180) of its box;
confidence that it is the ship with its MMSI.
"""

PREPARE_HINT = "build it with `rsft prepare`"


def read_manifest(root: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read the manifest of a store, and check the types of all columns.

    It has one row per chip.

    Args:
        root: folder of the store.
        columns: the columns to return; None returns all.

    Returns:
        The rows; their index counts all rows of the manifest.

    Raises:
        DataError: the manifest is damaged. The message names the row and the column.
    """
    return pd.concat(read_manifest_parts(root, columns))


def read_manifest_parts(
    root: Path, columns: Sequence[str] | None = None, split: str | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the manifest in parts, whose index counts all rows; see `read_manifest`."""
    with _reading(root / MANIFEST):
        for part in read_parquet_parts(root / MANIFEST):
            for row, path in zip(part.index.tolist(), part["path"], strict=True):
                try:
                    check_chip_path(path)
                except ValueError as error:
                    raise ValueError(f"row {row + 1:,} {error}") from error
            check_manifest_columns(part)
            part["unit"] = part["unit"].str.lower()
            if split is not None:
                part = part[part["split"] == split]
            yield part if columns is None else part[list(columns)]


def read_manifest_classes(path: Path) -> set[str]:
    """Return the classes in a manifest, after a check of its columns."""
    classes = set[str]()
    with _reading(path):
        _, columns = read_parquet_header(path)
        missing = [name for name in SCHEMA.names if name not in columns]
        if missing:
            raise ValueError(f"it has no column {', '.join(missing)}")
        for part in read_parquet_parts(path, ["class"]):
            check_columns(part, [CLASS_COLUMN])
            classes.update(part["class"])
    return classes


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise DataError if the manifest is damaged."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise DataError(
            f"the manifest cannot be read: {error}", path, PREPARE_HINT
        ) from error
