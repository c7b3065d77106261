"""Two evaluations of the same chips, chip by chip."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rsft.errors import DataError, RequestError
from rsft.evaluation.files import METRICS, PREDICTIONS
from rsft.metrics.paired import Paired, compare


@dataclass(frozen=True)
class Comparison:
    """How the first differs from the second.

    Attributes:
        first, second: folders of the evaluations.
        methods: their names.
        count: chips that both classified.
        paired: the first less the second, groups as the first has them.
    """

    first: str
    second: str
    methods: tuple[str, str]
    count: int
    paired: Paired

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**vars(self), "paired": self.paired.to_dict()}


def compare_runs(first: Path, second: Path) -> Comparison:
    """Compare two runs, or two folders that `rsft evaluate` wrote, on the chips that both were evaluated on.

    Raises:
        RequestError: no evaluation there, or one of other classes or other chips.
        DataError: a file of it is damaged.
    """
    folders = [_evaluation(folder) for folder in (first, second)]
    metrics = [_metrics(folder) for folder in folders]
    classes = metrics[0]["classes"]
    if metrics[1]["classes"] != classes:
        raise RequestError("the two know different classes", folders[1], "compare runs on the same classes")
    tables = [_predictions(folder) for folder in folders]
    if not tables[0]["class"].equals(tables[1]["class"]):
        shared = len(tables[0].index.intersection(tables[1].index))
        raise RequestError(
            f"other chips: {len(tables[0]):,} and {len(tables[1]):,}, of which {shared:,} are in both",
            f"{folders[0]} and {folders[1]}",
            "evaluate both on the same split of the same data",
        )
    places = {name: index for index, name in enumerate(classes)}

    def indices(column: pd.Series[str]) -> NDArray[np.int64]:
        return column.map(places).to_numpy(np.int64)

    predicted, other = (indices(table["predicted"]) for table in tables)
    return Comparison(
        first=str(folders[0]),
        second=str(folders[1]),
        methods=(next(iter(metrics[0]["methods"])), next(iter(metrics[1]["methods"]))),
        count=len(tables[0]),
        paired=compare(predicted, other, indices(tables[0]["class"]), metrics[0]["groups"]),
    )


def _evaluation(folder: Path) -> Path:
    for candidate in (folder, folder / "evaluation"):
        if (candidate / METRICS).is_file() and (candidate / PREDICTIONS).is_file():
            return candidate
    raise RequestError(f"there is no {METRICS} with {PREDICTIONS}", folder, "evaluate it first: rsft evaluate")


def _metrics(folder: Path) -> dict[str, Any]:
    path = folder / METRICS
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {key: found[key] for key in ("classes", "methods", "groups")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("the file is damaged", path, "evaluate again") from error


def _predictions(folder: Path) -> pd.DataFrame:
    """Class and predicted class by the path of the chip, sorted."""
    path = folder / PREDICTIONS
    try:
        table = pd.read_parquet(path, columns=["path", "class", "predicted"])
    except (ValueError, OSError, pa.ArrowException) as error:
        raise DataError("the file is damaged", path, "evaluate again") from error
    return table.set_index("path").sort_index()
