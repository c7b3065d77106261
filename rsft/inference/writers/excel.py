"""Write a table of predictions as a sheet of Excel."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from rsft.errors import RequestError
from rsft.inference.writers.layer import (
    LAYER_NAME,
    PredictionLayer,
    with_wkt,
    without_nan,
)
from rsft.inference.writers.table_format import TABLE_FORMATS, TableFormat
from rsft.utils.atomic_files import atomic_file
from rsft.utils.dependencies import require
from rsft.utils.tables import replace_controls

_ROWS = 1_048_576
_COLUMNS = 16_384
_LETTERS = 32_767
_INTEGER = 10**15
"""Limits of a sheet, and of a cell; Excel keeps 15 digits of a number."""


@TABLE_FORMATS.register
class Excel(TableFormat):
    """A sheet of Excel.

    Texts have the type of texts, so that Excel executes none; times are in UTC.
    """

    name = "xlsx"

    def check(self, path: Path, columns: Iterable[str]) -> None:
        require("openpyxl", "excel")

    def check_size(self, path: Path, rows: int, columns: int) -> None:
        if rows < _ROWS and columns <= _COLUMNS:
            return
        raise RequestError(
            f"{rows:,} rows and {columns:,} columns, but below its header, a sheet of"
            f" Excel has {_ROWS - 1:,} rows and {_COLUMNS:,} columns",
            path,
            "use .gpkg, .parquet or .csv",
        )

    def write(self, layer: PredictionLayer, path: Path) -> None:
        rows = without_nan(with_wkt(layer))
        self.check_size(path, *rows.shape)
        book = require("openpyxl", "excel").Workbook(write_only=True)
        sheet = book.create_sheet(LAYER_NAME)
        sheet.freeze_panes = "A2"
        with closing(sheet):  # also after an error: openpyxl writes a temporary file
            sheet.append([_to_cell(sheet, name, path) for name in rows.columns])
            for row in rows.itertuples(index=False, name=None):
                sheet.append([_to_cell(sheet, value, path) for value in row])
        with atomic_file(path) as temporary:
            book.save(temporary)


def _to_cell(sheet: Any, value: Any, path: Path) -> Any:
    """Return a value as Excel stores it; long numbers become texts."""
    if isinstance(value, datetime) and value.tzinfo:
        value = value.astimezone(UTC).replace(tzinfo=None)
    is_long = isinstance(value, int | np.integer) and abs(int(value)) > _INTEGER
    if value is None:
        return None
    if isinstance(value, int | float | np.generic | date) and not is_long:
        return value
    text = replace_controls(str(value))
    if len(text) > _LETTERS:
        raise RequestError(
            f"a text has {len(text):,} letters, but a cell of Excel has at most"
            f" {_LETTERS:,}",
            path,
            "use .gpkg, .parquet or .csv",
        )
    cell = require("openpyxl.cell", "excel").WriteOnlyCell(sheet, text)
    cell.data_type = "s"  # not the formula that openpyxl makes of a text with "="
    return cell
