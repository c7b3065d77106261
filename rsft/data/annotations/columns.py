"""Attributes of annotations: their types, and their names beside other columns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

AT = "at"
"""Column of the identity of an object: feature id, annotation id or line number."""

PREFIX = "at_"
"""Prefix of an attribute whose name is that of another column. Upper and lower case are the same name."""

_MISSING = frozenset({"", "na", "n/a", "nan", "none", "null"})  # of a number or a truth value, in lower case
_PARSERS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"-?(0|[1-9]\d{0,17})"), int),  # no leading zero, which only identifiers have
    (re.compile(r"-?(0|[1-9]\d{0,14}|(?=\.\d))(\.\d*)?([eE][+-]\d+)?"), float),
    (re.compile(r"true|false", re.IGNORECASE), lambda value: value.lower() == "true"),
)


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
    """Return an Arrow array as a column of pandas that keeps its type and its nulls."""
    return pd.Series(pd.array(array, dtype=pd.ArrowDtype(array.type)), name=name)


def text_column(name: str, texts: Iterable[str], decimal: str = ".") -> pd.Series[Any]:
    """Return texts of a file without types as a column of whole numbers, numbers, truth values or texts.

    Texts with a leading zero are not numbers, because identifiers have them.

    Args:
        name: name of the column.
        texts: the texts; "" if there is no value.
        decimal: decimal separator of numbers.
    """
    values = [text.strip() for text in texts]
    numbers = [None if value.lower() in _MISSING else value.replace(decimal, ".") for value in values]
    present = [number for number in numbers if number is not None]
    for pattern, parse in _PARSERS:
        if present and all(pattern.fullmatch(number) for number in present):
            return typed_column(name, [None if number is None else parse(number) for number in numbers])
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
    """Return tables of attributes, one per scene, below each other. A column whose types differ becomes text."""
    types = pd.DataFrame([table.dtypes.astype(str) for table in tables])
    mixed = types.columns[types.nunique() > 1]
    return pd.concat([_as_texts(table, mixed) for table in tables])


def _as_texts(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    texts = {
        name: typed_column(name, [None if pd.isna(value) else str(value) for value in table[name]]).array
        for name in names
        if name in table
    }
    return table.assign(**texts)
