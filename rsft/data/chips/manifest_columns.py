"""Check the columns of the manifest of a chip store."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rsft.utils.untrusted.tables import Column, check_columns

SPLITS = ("train", "val", "test")
PROVENANCE = {
    "added_from": pa.string(),  # table with the label
    "added_bundle": pa.string(),  # SHA-256 of the bundle that had classified the chip
    "added_predicted": pa.string(),  # class that it had predicted
    "added_previous": pa.string(),  # class of the chip in the store before, if it had one
    "added_on": pa.string(),  # date and time
}
"""Optional columns of the manifest: where rows come from that were added to a finished store, or got another class."""

CLASS_COLUMN = Column("class")
_COLUMNS = [
    *(Column(name) for name in ("name", "path", "unit", "bands")),
    CLASS_COLUMN,
    Column("split", choices=SPLITS),
    *(Column(name, optional=True) for name in ("group", "group_key", "source", "sensor", "flags")),
    *(Column(name, optional=True) for name in ("polarisation", "mmsi", "sha256")),
    *(Column(name, "number", optional=True) for name in ("spacing_m", "incidence_deg")),
    *(Column(name, optional=True, required=False) for name in PROVENANCE),
]
_SHOWN = 60  # letters of a cell in a message


def check_manifest_columns(table: pd.DataFrame) -> None:
    """Check the types and the ranges of the cells of a manifest.

    Args:
        table: the manifest.

    Raises:
        ValueError: a column is missing or occurs twice, or a cell is wrong. The text names the row (from 1) and the
            column.
    """
    if table.columns.has_duplicates:
        raise ValueError(f"two columns are called {table.columns[table.columns.duplicated()][0]}")
    check_columns(table, _COLUMNS)
    hashes, angles, boxes = (_filled(table[name]) for name in ("sha256", "incidence_deg", "box"))
    _check_cells(table["sha256"], ~hashes.astype(str).str.fullmatch("(?i)[0-9a-f]{64}"), _SHA256)
    _check_cells(table["incidence_deg"], ~angles.astype(float).between(-90, 90), _ANGLE)
    if not _are_boxes(boxes):
        _check_cells(table["box"], ~boxes.map(_is_box), _BOX)


def check_chip_path(path: object) -> None:
    """Check that a chip lies in its store.

    Args:
        path: its path in the manifest.

    Raises:
        ValueError: the path is not a text, is absolute, or leaves the store.
    """
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError("has no path of a chip")
    name = PurePosixPath(path.replace("\\", "/"))
    if name.is_absolute() or PureWindowsPath(path).drive or ".." in name.parts:
        raise ValueError(f"leaves the store: {path[:200]}")


def describe_column_fault(row: Mapping[str, Any]) -> str:
    """Return why the columns of a new chip cannot be stored, or "" if they can.

    Args:
        row: values by column.
    """
    angle, box = row.get("incidence_deg"), row.get("box")
    if angle is not None and not (math.isnan(angle) or -90 <= angle <= 90):
        return f"incidence_deg is {angle:g}, expected {_ANGLE}"
    return f"box is {str(box)[:_SHOWN]}, expected {_BOX}" if box is not None and not _is_box(box) else ""


_SHA256 = "64 hexadecimal digits"
_ANGLE = "an angle from -90 to 90"
_BOX = "8 finite numbers"


def _filled(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Return the cells that are not empty. A table that was edited as text has empty texts in all its columns."""
    present = cells.dropna()
    return present[[not isinstance(cell, str) or cell != "" for cell in present]]


def _check_cells(column: pd.Series[Any], is_wrong: pd.Series[bool], expected: str) -> None:
    """Raise an error that names the first wrong cell; `is_wrong` has no rows for empty cells."""
    wrong = is_wrong[is_wrong.astype(bool)]
    if len(wrong):
        row = list(column.index).index(wrong.index[0])
        cell = column.iloc[row]
        found = (repr(cell) if isinstance(cell, str) else str(cell))[:_SHOWN]
        raise ValueError(f"row {row + 1:,}, column {column.name}: found {found}, expected {expected}")


def _are_boxes(cells: pd.Series[Any]) -> bool:
    """Return whether all cells are boxes; much faster than a test of each cell."""
    try:
        return not len(cells) or _is_box(np.stack(list(cells)).T)
    except (ValueError, TypeError):
        return False


def _is_box(cell: object) -> bool:
    """Return whether a cell (8,), or all columns of an array (8, N), are finite numbers."""
    try:
        numbers = np.asarray(cell)
        return len(numbers) == 8 and numbers.dtype.kind in "fiu" and bool(np.isfinite(numbers).all())
    except (ValueError, TypeError):
        return False
