"""Keep spreadsheets from executing the texts of CSV tables.

Excel and LibreOffice execute a cell that begins with =, +, -, @, a tab or a carriage return. rsft writes an apostrophe
before such a text, which spreadsheets show as text, and removes it when it reads a table. Numbers stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_ESCAPED = re.compile(r"''*[=+\-@\t\r]")


def escape_cell(value: Any) -> Any:
    """Return a text with an apostrophe before it if a spreadsheet would execute it; any other value as it is.

    Args:
        value: the value of a cell.

    Example:
        >>> [escape_cell(value) for value in ("=1+1", "-1.5", "ship", -2)]
        ["'=1+1", '-1.5', 'ship', -2]
    """
    if not isinstance(value, str) or not _FORMULA.match(value) or is_number(value):
        return value
    return f"'{value}"


def unescape_cell(value: Any) -> Any:
    """Return the text to which `escape_cell` added an apostrophe; any other value as it is.

    Args:
        value: the value of a cell.
    """
    return value[1:] if isinstance(value, str) and _ESCAPED.match(value) else value


def escape_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts and column names are no formulas.

    Args:
        table: the table.
    """
    return _map(table, escape_cell)


def unescape_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that was read from CSV with the texts and column names that `escape_table` received.

    Args:
        table: the table.
    """
    return _map(table, unescape_cell)


def _map(table: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    columns = [table.iloc[:, index] for index in range(table.shape[1])]  # names may occur twice
    changed = [column.map(change, na_action="ignore") if _has_texts(column) else column for column in columns]
    mapped = pd.concat(changed, axis=1) if changed else table
    return mapped.set_axis([change(name) for name in table.columns], axis=1)


def _has_texts(column: pd.Series[Any]) -> bool:
    return column.dtype == object or pd.api.types.is_string_dtype(column.dtype)


def is_number(text: str) -> bool:
    """Return whether a text is a number, also infinite or not a number.

    Args:
        text: the text of a cell.
    """
    try:
        float(text)
    except ValueError:
        return False
    return True
