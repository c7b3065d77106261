"""Columns of attributes: their types and their names."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

PREFIX = "at_"
"""Prefix of an attribute whose name is that of another column. Upper and lower case are
the same name."""

MISSING = frozenset({"", "na", "n/a", "nan", "none", "null"})
"""Texts that are no number and no truth value, in lower case."""

# a number with a leading zero is an identifier
_WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14}|(?=\.\d))(\.\d*)?([eE][+-]\d+)?")
_TRUTH = re.compile(r"true|false", re.IGNORECASE)


_PARSERS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (_WHOLE, int),
    (_NUMBER, float),
    (_TRUTH, lambda text: text.lower() == "true"),
)


def typed_column(name: str, values: Sequence[Any]) -> pd.Series[Any]:
    """Return values of any type, None if there is no value, as a column of one type.

    Returns:
        The column. Lists, objects and values of several types become JSON or text.
    """
    flat = [_to_json(value) for value in values]
    try:
        array = pa.array(flat)
    except (pa.ArrowException, OverflowError):
        array = pa.array([None if value is None else str(value) for value in flat])
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    return arrow_column(name, array)


def _to_json(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value


def arrow_column(name: str, array: pa.Array | pa.ChunkedArray) -> pd.Series[Any]:
    """Return an Arrow array as a column of pandas that keeps its type and its nulls."""
    return pd.Series(pd.array(array, dtype=pd.ArrowDtype(array.type)), name=name)


def text_column(
    name: str, texts: Iterable[str | None], decimal: str = "."
) -> pd.Series[Any]:
    """Return texts as a column of whole numbers, numbers, truth values or texts.

    Texts with a leading zero are not numbers, because identifiers have them.

    Args:
        name: name of the column.
        texts: the texts; "" or None if there is no value.
        decimal: decimal separator of numbers.
    """
    values = [(text or "").strip() for text in texts]
    numbers = [value.replace(decimal, ".") for value in values]
    present = [number for number in numbers if number.lower() not in MISSING]
    for pattern, parse in _PARSERS:
        if present and all(map(pattern.fullmatch, present)):
            parsed = {number: parse(number) for number in present}
            return typed_column(name, list(map(parsed.get, numbers)))
    return typed_column(name, [value or None for value in values])


def name_texts(column: pd.Series[Any]) -> list[str]:
    """Return the names in a column, "" where there is none."""
    names = column.astype(object)
    return names.where(names.notna(), "").astype(str).tolist()


def normalize_label(text: str) -> str:
    """Return the name of a class in one spelling.

    Letters with accents have two (NFC and NFD), which look equal. Blanks at the ends do
    not count.
    """
    return unicodedata.normalize("NFC", text).strip()


def unique_names(names: Iterable[str], reserved: Iterable[str]) -> list[str]:
    """Return names that differ from each other and from the reserved ones.

    Case does not matter.

    Returns:
        The names; those that are taken get the prefix `at_`.
    """
    taken = {name.casefold() for name in reserved}
    unique = []
    for name in names:
        while name.casefold() in taken:
            name = PREFIX + name
        taken.add(name.casefold())
        unique.append(name)
    return unique


def concat_attributes(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return tables of attributes, one per scene, below each other.

    A column whose types differ becomes text.
    """
    types = pd.DataFrame([table.dtypes.astype(str) for table in tables])
    mixed = types.columns[types.nunique() > 1]
    result = []
    for table in tables:
        table = table.copy()
        for name in mixed.intersection(table.columns):
            texts = [None if pd.isna(cell) else str(cell) for cell in table[name]]
            table[name] = typed_column(name, texts).array
        result.append(table)
    return pd.concat(result)
