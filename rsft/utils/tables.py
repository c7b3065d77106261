"""Tables from untrusted sources: check their columns, and keep spreadsheets from executing texts of CSV cells.

Excel and LibreOffice execute a cell that begins with =, +, -, @, a tab or a carriage
return. rsft writes an apostrophe before such a text, which spreadsheets show as text,
and removes it when it reads a table. Numbers stay as they are. A terminal that shows
the file would execute control characters, so they become texts.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from rsft.utils.atomic_files import atomic_file
from rsft.utils.untrusted.documents import read_regular

if TYPE_CHECKING:
    import pyarrow as pa

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ESCAPED = re.compile(r"''*[=+\-@\t\r]")


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file, or some of its columns, and check all values: pandas reads texts only when they are used.

    Raises:
        OSError: the file cannot be read.
        pyarrow.ArrowException: it is damaged, or a text is not UTF-8.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=columns)
    table.validate(full=True)
    return table


def read_parquet_parts(
    path: Path, columns: list[str] | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the row groups of a Parquet file, whose index counts all rows; at least one. See `read_parquet`."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        row = 0
        for groups in [[group] for group in range(file.num_row_groups)] or [[]]:
            table = file.read_row_groups(groups, columns)
            table.validate(full=True)
            part: pd.DataFrame = table.replace_schema_metadata().to_pandas()
            yield part.set_axis(pd.RangeIndex(row, row + len(part)))
            row += len(part)


def escape_cell(value: Any) -> Any:
    """Return a text with an apostrophe before it if a spreadsheet would execute it, and without control characters.

    Tabs and ends of lines stay, and so does any value that is no text.

    Example:
        >>> [escape_cell(value) for value in ("=1+1", "-1.5", "ship", -2)]
        ["'=1+1", '-1.5', 'ship', -2]
    """
    if not isinstance(value, str):
        return value
    text = replace_controls(value)
    if _FORMULA.match(text) and not is_number(text):
        return f"'{text}"
    return text


def replace_controls(text: str) -> str:
    """Return a text with control characters as hexadecimal numbers.

    Tabs and ends of lines stay.
    """
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


def unescape_cell(value: Any) -> Any:
    """Return the text to which `escape_cell` added an apostrophe; any other value as it is."""
    if isinstance(value, str) and _ESCAPED.match(value):
        return value[1:]
    return value


def escape_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts and column names are no formulas."""
    return _map(table, escape_cell)


def write_csv_table(table: pd.DataFrame, path: Path) -> None:
    """Write any table as CSV, whole or not at all."""
    with atomic_file(path) as temporary:
        escape_table(table).to_csv(temporary, index=False)


def unescape_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that was read from CSV with the texts and column names that `escape_table` received."""
    return _map(table, unescape_cell)


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a CSV table in UTF-8 whose cells remain texts; empty cells are "".

    The separator is the comma, unless the header has more semicolons or tabs.

    Raises:
        OSError: the file cannot be read.
        DataError: it is larger than MAX_TABLE_BYTES.
        ValueError: it is not such a table.
    """
    text = read_regular(path).decode("utf-8-sig")
    separator = max(",;\t", key=text.partition("\n")[0].count)
    return unescape_table(
        pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False)
    )


def _map(table: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    def is_text(column: pd.Series[Any]) -> bool:
        return column.dtype == object or pd.api.types.is_string_dtype(column.dtype)

    columns = [
        table.iloc[:, index] for index in range(table.shape[1])
    ]  # names may occur twice
    changed = [
        column.map(change, na_action="ignore") if is_text(column) else column
        for column in columns
    ]
    mapped = pd.concat(changed, axis=1) if changed else table
    return mapped.set_axis([change(name) for name in table.columns], axis=1)


def is_number(text: str) -> bool:
    """Return whether a text is a number, also infinite or not a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


_SHOWN = 60  # letters of a cell in a message
_LARGEST = 1e30  # finite number; the charts and sums of larger ones overflow


@dataclass(frozen=True)
class Column:
    """What the cells of a column must be.

    Attributes:
        name: name of the column.
        kind: "text", "number" for integers and floats, "finite number" of at most 1e30,
            or "list of names".
        optional: whether cells may be empty.
        required: whether the table must have the column.
        unique: whether two rows may not have the same cell.
        choices: the allowed cells; empty if all are allowed.
    """

    name: str
    kind: Literal["text", "number", "finite number", "list of names"] = "text"
    optional: bool = False
    required: bool = True
    unique: bool = False
    choices: Collection[str] = ()


def check_columns(table: pd.DataFrame, columns: Iterable[Column]) -> None:
    """Check the cells of a table.

    Raises:
        ValueError: a column is missing, or a cell is wrong. The text names the row (its
            index + 1) and the column.

    Example:
        >>> check_columns(pd.DataFrame({"share": [0.5, "x"]}), [Column("share", "number")])
        Traceback (most recent call last):
        ValueError: row 2, column share: found 'x', expected a number
    """
    columns = list(columns)
    missing = [
        column.name
        for column in columns
        if column.required and column.name not in table
    ]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}")
    for column in columns:
        if column.name in table:
            _check_column(table[column.name], column)


def _check_column(cells: pd.Series, column: Column) -> None:
    empty = cells.isna()
    if (
        "number" in column.kind
        and pd.api.types.is_numeric_dtype(cells)
        and cells.dtype != bool
    ):
        wrong = empty & (not column.optional)
        if column.kind == "finite number":
            wrong |= cells.abs() > _LARGEST
    elif column.kind == "text" and pd.api.types.infer_dtype(cells, skipna=True) in (
        "string",
        "empty",
    ):
        wrong = empty & (not column.optional)
        if column.choices:
            wrong |= ~empty & ~cells.isin([*column.choices])
    else:
        wrong = pd.Series(
            [not _is_valid(cell, column) for cell in cells], cells.index, bool
        )
    if column.choices:
        expected = f"one of {', '.join(column.choices)}"
    else:
        expected = f"a {column.kind}"
    if column.unique and not wrong.any():
        wrong = cells.duplicated()
        expected = f"{expected} that no row above has"
    if not wrong.any():
        return
    position = int(wrong.to_numpy(bool).argmax())
    row = cells.index[position]
    cell = cells.iloc[position]
    if _is_empty(cell):
        content = "an empty cell"
    else:
        content = (repr(cell) if isinstance(cell, str) else str(cell))[:_SHOWN]
    raise ValueError(
        f"row {row + 1:,}, column {column.name}: found {content}, expected {expected}"
    )


def _is_valid(cell: object, column: Column) -> bool:
    if _is_empty(cell):
        return column.optional
    if column.kind == "list of names":
        return isinstance(cell, list | np.ndarray) and all(
            isinstance(name, str) for name in cell
        )
    if "number" in column.kind:
        if (
            isinstance(cell, str) and not cell and column.optional
        ):  # of a table that was read and written as text
            return True
        if not isinstance(cell, int | float) or isinstance(cell, bool):
            return False
        return abs(cell) <= _LARGEST or (
            column.kind == "number" and isinstance(cell, float)
        )
    return isinstance(cell, str) and (not column.choices or cell in column.choices)


def _is_empty(cell: object) -> bool:
    return (
        cell is None
        or cell is pd.NA
        or cell is pd.NaT
        or (isinstance(cell, float) and math.isnan(cell))
    )
