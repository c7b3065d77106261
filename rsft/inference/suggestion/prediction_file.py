"""Read a table of predictions."""

from collections.abc import Sequence
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rsft.errors import RequestError
from rsft.inference.corrections.corrected_table import (
    number_cells,
    read_table_file,
    text_cells,
)
from rsft.inference.writers.columns import probability_columns

_HINT = "give a chip store, or a table that `rsft predict` wrote"

_TEXT_COLUMNS = ("chip", "scene", "path", "class", "class_set", "at", "corrected")

_SUM_TOLERANCE = 0.01  # of the probabilities of a chip, which are rounded


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
    classes: tuple[str, ...]
    metadata: dict[str, Any]
    invalid: int = 0


def read_prediction_file(
    path: Path, classes: Sequence[str] | None = None
) -> PredictionFile:
    """Read a table of predictions.

    Args:
        path: a GeoPackage, GeoJSON, GeoParquet or CSV that `rsft predict` wrote. It may
            have more columns.
        classes: names of the classes, if they are known; None takes them from the
            metadata or from the columns.

    Raises:
        RequestError: the file does not exist, cannot be read, or is not a table of
            predictions.
    """
    table, metadata = read_table_file(path, _HINT)
    if isinstance(metadata, dict):
        listed = metadata.get("classes")
    else:
        listed = 0
    if isinstance(metadata, dict):
        counts = metadata.get("train_counts")
    else:
        counts = 0
    are_names = listed is None or (
        isinstance(listed, list) and all(isinstance(name, str) for name in listed)
    )
    are_counts = not isinstance(counts, dict) or all(
        isinstance(count, int | float) for count in counts.values()
    )
    if not (are_names and are_counts):
        raise RequestError(
            "the metadata of the table are damaged: classes or train_counts",
            path,
            _HINT,
        )
    table = table.drop(columns=["_line", "geometry"], errors="ignore")
    classes = classes or listed
    if table.empty and classes:  # GeoJSON without features names no columns
        table = table.reindex(
            columns=list(
                dict.fromkeys([*table, "path", "class", *probability_columns(classes)])
            )
        )
    # the first columns p_<class> that follow each other: attributes may also begin with
    # p_
    if not classes:
        columns = dropwhile(lambda name: not name.startswith("p_"), table.columns)
        classes = [
            name[2:] for name in takewhile(lambda name: name.startswith("p_"), columns)
        ]
    names = probability_columns(classes)
    missing = [
        name
        for name in ("path", "class", *(names or ["p_<class>"]))
        if name not in table
    ]
    if missing:
        listed = ", ".join(map(str, table.columns[:8])) or "none"
        raise RequestError(
            f"the table has no column {', '.join(missing[:3])}; it has {listed}",
            path,
            _HINT,
        )
    texts = {name: text_cells(table, name) for name in _TEXT_COLUMNS if name in table}
    numbers = {
        name: number_cells(table, name)
        for name in ("ood_distance", *names)
        if name in table
    }
    table = table.assign(**texts, **numbers)
    probabilities = table[names].to_numpy(float)
    valid = (probabilities >= 0).all(axis=1) & (
        np.abs(probabilities.sum(axis=1) - 1) < _SUM_TOLERANCE
    )
    valid &= (table["path"] != "").to_numpy(bool)
    if len(table) and not valid.any():
        raise RequestError(
            "no row has a path and the probabilities of all classes", path, _HINT
        )
    return PredictionFile(table[valid], tuple(classes), metadata, int((~valid).sum()))
