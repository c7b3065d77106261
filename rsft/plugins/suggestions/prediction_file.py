"""Read a table of predictions."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from rsft.errors import RequestError
from rsft.inference.prediction_table import (
    number_cells,
    read_table_file,
    text_cells,
)
from rsft.inference.writers.columns import probability_columns
from rsft.types import JsonObject, Names

_HINT = "give a chip store, or a table that `rsft predict` wrote"
_TEXT_COLUMNS = ["chip", "scene", "path", "class", "class_set", "at", "corrected"]
_SUM_TOLERANCE = 0.01  # of the probabilities of a chip, which are rounded


class _Metadata(BaseModel, strict=True):
    """Metadata that suggestions need; each may be missing."""

    classes: list[str] | None = None
    train_counts: dict[str, float] | None = None


class PredictionFile(NamedTuple):
    """The content of a file of predictions.

    Attributes:
        table: one row per chip with valid probabilities; the index is the row number.
            The columns chip, scene, path, class, class_set, at and corrected are texts,
            "" without a value, if the file has them; `ood_distance` and `p_<class>` are
            numbers.
        metadata: how the table was made; empty for CSV.
        invalid: number of rows that were left out, because they have no valid
            probabilities.
    """

    table: pd.DataFrame
    classes: Names
    metadata: JsonObject
    invalid: int = 0


def read_prediction_file(path: Path) -> PredictionFile:
    """Read a table of predictions.

    Args:
        path: a GeoPackage, GeoJSON, GeoParquet or CSV that `rsft predict` wrote. It may
            have more columns.

    Raises:
        RequestError: the file does not exist, cannot be read, or is not a table of
            predictions.
    """
    table, metadata = read_table_file(path, _HINT)
    try:
        _Metadata.model_validate(metadata)
    except ValidationError as error:
        raise RequestError(
            "the metadata of the table are damaged: classes or train_counts",
            path,
            _HINT,
        ) from error
    table = table.drop(columns=["_line", "geometry"], errors="ignore")
    classes = metadata.get("classes") or _find_classes(table)
    names = probability_columns(classes)
    needed = ["path", "class", *names]
    if table.empty and names:  # GeoJSON without features names no columns
        table = table.reindex(columns=list(dict.fromkeys([*table, *needed])))
    missing = [name for name in needed if name not in table]
    if not names:
        missing.append("p_<class>")
    if missing:
        existing = ", ".join(map(str, table.columns[:8])) or "none"
        raise RequestError(
            f"the table has no column {', '.join(missing[:3])}; it has {existing}",
            path,
            _HINT,
        )
    cells: dict[str, Any] = dict(table)  # columns set one by one fragment a table
    for name in table.columns.intersection(_TEXT_COLUMNS):
        cells[name] = text_cells(table, name)
    for name in table.columns.intersection(["ood_distance", *names]):
        cells[name] = number_cells(table, name)
    table = pd.DataFrame(cells, table.index)
    probabilities = table[names].to_numpy(float)
    has_sum = np.abs(probabilities.sum(axis=1) - 1) < _SUM_TOLERANCE
    valid = has_sum & (probabilities >= 0).all(axis=1)
    valid &= (table["path"] != "").to_numpy(bool)
    if len(table) and not valid.any():
        raise RequestError(
            "no row has a path and the probabilities of all classes", path, _HINT
        )
    return PredictionFile(table[valid], tuple(classes), metadata, int((~valid).sum()))


def _find_classes(table: pd.DataFrame) -> list[str]:
    """Return the classes of the first columns p_<class> that follow each other.

    Attributes may also begin with p_.
    """
    classes: list[str] = []
    for name in table.columns:
        if name.startswith("p_"):
            classes.append(name[2:])
        elif classes:
            break
    return classes
