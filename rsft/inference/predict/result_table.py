"""The columns of the predictions table: their order, their types, and the attributes of positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from rsft.inference.predict.postprocess import probability_columns
from rsft.inference.scenes.attributes import AT, unique_names

_TEXT, _NUMBER = pd.ArrowDtype(pa.string()), "float64"
_FIRST_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("chip", "scene", "path", "class"), _TEXT),
    "probability": _NUMBER,
    "class_2": _TEXT,
    "probability_2": _NUMBER,
    "set": _TEXT,
    "ood": "bool",
    "ood_distance": _NUMBER,
}
_LAST_COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("length_m", "length_m_low", "length_m_high"), _NUMBER),
    "length_from": _TEXT,
    **dict.fromkeys(("row", "col", "lon", "lat"), _NUMBER),
    AT: "Int64",
    "score": _NUMBER,
    "incidence_deg": _NUMBER,
    "geometry": "object",
}
_NAMES_OF_FORMATS = ("fid", "ogc_fid", "geom", "wkt", "thumb")
"""Columns that an output format or the review page adds."""


def table_columns(classes: Sequence[str]) -> list[str]:
    """List every column that a predictions table may have, in order, apart from attributes of positions."""
    return list(_column_types(classes))


def attribute_columns(table: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """List the columns of a predictions table that are attributes of positions.

    Args:
        table: the table.
        classes: names of the classes.
    """
    return [name for name in table.columns if name not in {*table_columns(classes), *_NAMES_OF_FORMATS}]


def make_result_table(
    batches: Sequence[pd.DataFrame], classes: Sequence[str], attributes: pd.DataFrame | None
) -> pd.DataFrame:
    """Combine the rows of all batches, and add the attributes of positions before the geometry.

    Columns without values are left out, except attributes. A table without rows has all columns.

    Args:
        batches: rows of the batches.
        classes: names of the classes.
        attributes: identity (`at`) and attributes of the positions, indexed by the name of the chip; None for chips
            that do not come from positions.

    Returns:
        One row per chip. Attributes whose names are taken have the prefix `at_`.
    """
    types = _column_types(classes)
    if batches:
        table = pd.concat(batches, ignore_index=True)
        columns = [name for name in types if name in table and (name == "geometry" or table[name].notna().any())]
        table = table[[*columns, *(["thumb"] if "thumb" in table else [])]]
    else:
        table = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in types.items()})
    if attributes is None:
        return table.astype({AT: types[AT]}) if AT in table else table
    rows = attributes.take(attributes.index.get_indexer(pd.Index(table["chip"]))).set_axis(table.index)
    rows.columns = pd.Index([AT, *unique_names(rows.columns[1:], [*types, *_NAMES_OF_FORMATS])])
    table[AT] = rows.pop(AT)
    split = table.columns.get_loc("geometry")
    return pd.concat([table.iloc[:, :split], rows, table.iloc[:, split:]], axis=1)


def _column_types(classes: Sequence[str]) -> dict[str, Any]:
    return _FIRST_COLUMNS | dict.fromkeys(probability_columns(classes), _NUMBER) | _LAST_COLUMNS
