"""Read a table that `rsft predict` wrote, in any of its formats."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.errors import RequestError
from rsft.inference.corrections.corrected_table import read_table_file
from rsft.inference.predict.postprocess import SET_SEPARATOR, probability_columns

_HINT = "give a chip store, or a table that `rsft predict` wrote"
_TEXT_COLUMNS = ("chip", "scene", "path", "class", "set", "at", "corrected")
_SUM_TOLERANCE = 0.01  # of the probabilities of a chip, which are rounded


class PredictionFile(NamedTuple):
    """The content of a file of predictions.

    Attributes:
        table: one row per chip with valid probabilities; the index is the row number. The columns chip, scene, path,
            class, set, at and corrected are texts, "" without a value, if the file has them; `ood_distance` and
            `p_<class>` are numbers.
        classes: names of the classes.
        metadata: how the table was made; empty for CSV.
        invalid: number of rows that were left out, because they have no valid probabilities.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    invalid: int = 0

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The probability of every class, (N, C)."""
        return self.table[probability_columns(self.classes)].to_numpy(float)

    @property
    def set_sizes(self) -> NDArray[np.int64] | None:
        """The number of classes in every class set (N,), 0 if it was withheld; None if the table has no sets."""
        if "set" not in self.table:
            return None
        return np.array([len(text.split(SET_SEPARATOR)) if text else 0 for text in self.table["set"]], np.int64)


def read_prediction_file(path: Path, classes: Sequence[str] | None = None) -> PredictionFile:
    """Read a table of predictions.

    Args:
        path: a GeoPackage, GeoJSON, GeoParquet or CSV that `rsft predict` wrote. It may have more columns.
        classes: names of the classes, if they are known; None takes them from the metadata or from the columns.

    Returns:
        The table.

    Raises:
        RequestError: the file does not exist, cannot be read, or is not a table of predictions.
    """
    table, metadata = read_table_file(path, _HINT)
    _check_metadata(path, metadata)
    table = table.drop(columns=["_line", "geometry"], errors="ignore")
    known = metadata.get("classes") if classes is None else classes
    if table.empty and known:  # GeoJSON without features names no columns
        table = table.reindex(columns=list(dict.fromkeys([*table, "path", "class", *probability_columns(known)])))
    return _check(path, table, tuple(known or _class_names(list(table.columns))), metadata)


def _check_metadata(path: Path, metadata: Any) -> None:
    classes = metadata.get("classes") if isinstance(metadata, dict) else 0
    counts = metadata.get("train_counts") if isinstance(metadata, dict) else None
    are_names = classes is None or (isinstance(classes, list) and all(isinstance(name, str) for name in classes))
    are_counts = not isinstance(counts, dict) or all(isinstance(count, int | float) for count in counts.values())
    if not (are_names and are_counts):
        raise RequestError("the metadata of the table are damaged: classes or train_counts", path, _HINT)


def _class_names(columns: Sequence[str]) -> list[str]:
    """Return the classes of the first columns p_<class> that follow each other. Attributes may also begin with p_."""
    first = next((number for number, name in enumerate(columns) if name.startswith("p_")), len(columns))
    return [name[2:] for name in takewhile(lambda name: name.startswith("p_"), columns[first:])]


def _check(path: Path, table: pd.DataFrame, classes: tuple[str, ...], metadata: dict[str, Any]) -> PredictionFile:
    names = probability_columns(classes)
    missing = [name for name in ("path", "class", *(names or ["p_<class>"])) if name not in table]
    if missing:
        listed = ", ".join(map(str, table.columns[:8])) or "none"
        raise RequestError(f"the table has no column {', '.join(missing[:3])}; it has {listed}", path, _HINT)
    texts = {name: table[name].map(_as_text) for name in _TEXT_COLUMNS if name in table}
    numbers = {name: _as_numbers(table[name]) for name in ("ood_distance", *names) if name in table}
    table = table.assign(**texts, **numbers)
    probabilities = table[names].to_numpy(float)
    valid = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) < _SUM_TOLERANCE)
    valid &= (table["path"] != "").to_numpy(bool)
    if len(table) and not valid.any():
        raise RequestError("no row has a path and the probabilities of all classes", path, _HINT)
    return PredictionFile(table[valid], classes, metadata, int((~valid).sum()))


def _as_text(value: Any) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _as_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    if not pd.api.types.is_numeric_dtype(column):  # texts, with decimal commas if a spreadsheet saved them
        column = column.map(lambda value: value.replace(",", ".") if isinstance(value, str) else value)
    return pd.to_numeric(column, errors="coerce").astype(float)
