"""Check the columns of tables, and keep spreadsheets from executing texts of CSV cells.

Excel and LibreOffice execute a cell that begins with =, +, -, @, a tab or a carriage
return. rsft writes an apostrophe before such a text, which spreadsheets show as text,
and removes it when it reads a table. Numbers stay as they are. A terminal that shows
the file would execute control characters, so they become texts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from rsft.utils.atomic_files import atomic_file

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ESCAPED = re.compile(r"''*[=+\-@\t\r]")


def escape_cell(value: Any) -> Any:
    """Return a text that no spreadsheet executes, without control characters.

    A formula gets an apostrophe. Tabs and ends of lines stay, and so does any value
    that is no text.

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
    if text.isprintable():  # most texts; a tenth of the time
        return text
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


def unescape_cell(value: Any) -> Any:
    """Return the text to which `escape_cell` added an apostrophe, or the value."""
    if isinstance(value, str) and _ESCAPED.match(value):
        return value[1:]
    return value


def escape_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts and column names are no formulas."""
    escaped = []
    for index in range(table.shape[1]):
        column = table.iloc[:, index]
        if column.dtype == object or pd.api.types.is_string_dtype(column.dtype):
            column = column.map(escape_cell, na_action="ignore")
        escaped.append(column)
    result = pd.concat(escaped, axis=1) if escaped else table
    return result.set_axis([escape_cell(name) for name in table.columns], axis=1)


def write_csv_table(table: pd.DataFrame, path: Path) -> None:
    """Write any table as CSV, whole or not at all."""
    with atomic_file(path) as temporary:
        escape_table(table).to_csv(temporary, index=False)


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
        >>> table = pd.DataFrame({"share": [0.5, "x"]})
        >>> check_columns(table, [Column("share", "number")])
        Traceback (most recent call last):
        ValueError: row 2, column share: found 'x', expected a number
    """
    for column in columns:
        name = column.name
        if name not in table:
            if column.required:
                raise ValueError(f"no column {name}")
            continue
        cells = table[name]
        wrong = ~_are_valid(cells, column)
        expected = f"a {column.kind}"
        if column.choices:
            expected = f"one of {', '.join(column.choices)}"
        if column.unique and not wrong.any():
            wrong = cells.duplicated()
            expected += " that no row above has"
        if wrong.any():
            position = int(wrong.to_numpy(bool).argmax())
            cell = cells.iloc[position]
            content = repr(cell) if isinstance(cell, str) else str(cell)
            if cells.isna().iloc[position]:
                content = "an empty cell"
            raise ValueError(
                f"row {cells.index[position] + 1:,}, column {name}: found"
                f" {content[:_SHOWN]}, expected {expected}"
            )


def _are_valid(cells: pd.Series[Any], column: Column) -> pd.Series[bool]:
    """Return which cells are of the kind of a column, or empty where they may be."""
    if column.choices:
        is_valid = cells.isin(list(column.choices))
    else:
        is_valid = cells.map(_KINDS[column.kind])
    if column.optional:
        is_valid |= cells.isna()
        if "number" in column.kind:
            is_valid |= cells.isin([""])
    return is_valid.astype(bool)


def _is_text(cell: object) -> bool:
    return isinstance(cell, str)


def _is_number(cell: object) -> bool:
    """Return whether a cell is a number that a column of floats can hold."""
    if isinstance(cell, int):
        return not isinstance(cell, bool) and abs(cell) <= _LARGEST
    return isinstance(cell, float) and cell == cell


def _is_list_of_names(cell: object) -> bool:
    return isinstance(cell, list | np.ndarray) and all(map(_is_text, cell))


_KINDS = {
    "text": _is_text,
    "number": _is_number,
    "finite number": lambda cell: _is_number(cell) and abs(cell) <= _LARGEST,
    "list of names": _is_list_of_names,
}
"""Whether a cell is of a kind of columns."""
