"""Attributes of positions: their types, and their names beside the columns of the predictions table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

AT = "at"
"""Column of the identity of a position: feature id, annotation id or line number."""

PREFIX = "at_"
"""Prefix of an attribute whose name is that of another column. Upper and lower case are the same name."""

_MISSING = frozenset({"", "na", "n/a", "nan", "none", "null"})  # of a number or a truth value, in lower case
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")  # no leading zero, which only identifiers have
_FLOAT = re.compile(r"-?(0|[1-9]\d{0,14}|(?=\.\d))(\.\d*)?([eE][+-]\d+)?")
_BOOLEAN = re.compile(r"true|false", re.IGNORECASE)


def attribute_table(ids: Sequence[Any], numbers: Iterable[int], columns: Iterable[pd.Series[Any]]) -> pd.DataFrame:
    """Return a table of attributes, with the identities as column `at`.

    Args:
        ids: identity of every position: whole numbers or texts, None if it has none.
        numbers: the unique row number of every position, which becomes the index.
        columns: the attributes, as `typed_column` returns them, with their names.

    Returns:
        One row per position. `at` has whole numbers, or texts if one of the identities is a text.
    """
    is_whole = all(_is_whole(value) or value is None for value in ids)
    texts = [None if value is None else str(value) for value in ids]
    identity = pd.Series(ids, dtype="Int64") if is_whole else typed_column(AT, texts)
    table = pd.concat([identity, *columns], axis=1)
    table.columns = pd.Index([AT, *unique_names(map(str, table.columns[1:]), [AT])])
    table.index = pd.Index(list(numbers), dtype="int64")
    return table


def row_numbers(ids: Sequence[Any], first: int = 1) -> list[int]:
    """Return a unique number per position: its identity if all are unique whole numbers, else the row number.

    Args:
        ids: identity of every position.
        first: the number of the first row.
    """
    usable = all(_is_whole(value) and value >= 0 for value in ids) and len(set(ids)) == len(ids)
    return [int(value) for value in ids] if usable else list(range(first, first + len(ids)))


def typed_column(name: str, values: Sequence[Any]) -> pd.Series[Any]:
    """Return values of any type as a column of one type.

    Args:
        name: name of the column.
        values: numbers, texts, truth values, lists or objects; None if there is no value.

    Returns:
        The column. Lists, objects and values of several types become JSON or text.
    """
    flat = [json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value for value in values]
    try:
        array = pa.array(flat)
    except (pa.ArrowException, OverflowError):
        array = pa.array([value if value is None or isinstance(value, str) else str(value) for value in flat])
    return arrow_column(name, array.cast(pa.string()) if pa.types.is_null(array.type) else array)


def arrow_column(name: str, array: pa.Array | pa.ChunkedArray) -> pd.Series[Any]:
    """Return an Arrow array as a column of pandas that keeps its type and its nulls.

    Args:
        name: name of the column.
        array: the values.
    """
    return pd.Series(pd.array(array, dtype=pd.ArrowDtype(array.type)), name=name)


def text_column(name: str, texts: Sequence[str], decimal: str = ".") -> pd.Series[Any]:
    """Return texts of a file without types as a column of whole numbers, numbers, truth values or texts.

    Texts with a leading zero are not numbers, because identifiers have them.

    Args:
        name: name of the column.
        texts: the texts; "" if there is no value.
        decimal: decimal separator of numbers.
    """
    values = [text.strip() for text in texts]
    present = [value.replace(decimal, ".") for value in values if value.lower() not in _MISSING]
    parsers: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
        (_INTEGER, int),
        (_FLOAT, float),
        (_BOOLEAN, lambda value: value.lower() == "true"),
    )
    for pattern, parse in parsers:
        if present and all(pattern.fullmatch(value) for value in present):
            parsed = (None if value.lower() in _MISSING else parse(value.replace(decimal, ".")) for value in values)
            return typed_column(name, list(parsed))
    return typed_column(name, [value or None for value in values])


def unique_names(names: Iterable[str], reserved: Iterable[str]) -> list[str]:
    """Return names that differ from each other and from the reserved ones, regardless of case.

    Args:
        names: names of attributes.
        reserved: names of other columns.

    Returns:
        The names; those that are taken get the prefix `at_`.
    """
    taken, unique = {name.casefold() for name in reserved}, []
    for name in names:
        while name.casefold() in taken:
            name = PREFIX + name
        taken.add(name.casefold())
        unique.append(name)
    return unique


def concat_attributes(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return tables of attributes one below the other. A column whose types differ becomes text.

    Args:
        tables: one table per scene.
    """
    names = dict.fromkeys(name for table in tables for name in table.columns)
    types = {name: {str(table[name].dtype) for table in tables if name in table} for name in names}
    mixed = [name for name in names if len(types[name]) > 1]
    return pd.concat([_as_text(table, mixed) for table in tables])


def _as_text(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    texts = {
        name: typed_column(name, [None if pd.isna(value) else str(value) for value in table[name]]).set_axis(
            table.index
        )
        for name in names
        if name in table
    }
    return table.assign(**texts)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
