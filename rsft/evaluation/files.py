"""Write and read the files of an evaluation, and compare two chip by chip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import TypeAdapter

from rsft.errors import DataError, RequestError
from rsft.evaluation.schema import EVALUATION_FILE, Evaluation
from rsft.metrics.comparison import PairedDifferences, compare_predictions
from rsft.models.uncertainty.calibrator import ConfidenceEstimate
from rsft.training.runs.reader import find_newest_run
from rsft.types import Floats
from rsft.utils.atomic_files import atomic_file
from rsft.utils.parquet_files import read_parquet
from rsft.utils.untrusted.documents import load_json

T = TypeVar("T")

PREDICTIONS_FILE = "predictions.parquet"
EMBEDDING_FILE = "embedding.parquet"


def write_predictions(
    folder: Path,
    chips: pd.DataFrame,
    classes: Sequence[str],
    probabilities: Floats,
    estimate: ConfidenceEstimate | None,
) -> None:
    """Write predictions.parquet.

    It has one row per chip: name, path, class, predicted and p_<class>. With an
    estimate it also has `class_set`, the names of the possible classes, and `ood`,
    which is above 1 for a chip unlike the training chips.

    Args:
        folder: folder of the evaluation.
        chips: the N rows of the manifest.
        classes: class names by index.
        probabilities: (N, C).
        estimate: class sets and out-of-distribution scores of the N chips; None without
            calibration.
    """
    names = np.array(classes)
    table = pd.DataFrame(
        {key: chips[key].to_numpy() for key in ("name", "path", "class")}
    )
    table["predicted"] = names[probabilities.argmax(1)]
    if estimate:
        table["class_set"] = [names[members].tolist() for members in estimate.sets]
        table["ood"] = estimate.ood.astype(np.float32)
    columns = [f"p_{name}" for name in names]
    write_parquet(
        folder / PREDICTIONS_FILE,
        table.join(pd.DataFrame(probabilities.astype(np.float32), columns=columns)),
    )


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table without its index, whole or not at all."""
    with atomic_file(path) as temporary:
        table.to_parquet(temporary, index=False)


@dataclass(frozen=True)
class Comparison:
    """The first evaluation minus the second; the content of comparison.json.

    Attributes:
        first, second: folders of the evaluations.
        methods: names of their methods.
        count: number of evaluated chips.
        paired: paired differences, the first minus the second, for the groups of the
            first.
    """

    first: str
    second: str
    methods: tuple[str, str]
    count: int
    paired: PairedDifferences


def compare_runs(first: Path, second: Path) -> Comparison:
    """Compare two runs that were evaluated on the same chips: first minus second.

    Args:
        first: a run folder, runs/<recipe> for its newest run, or a folder that `rsft
            evaluate` wrote.
        second: such a folder of the reference.

    Raises:
        RequestError: an evaluation is missing, or the classes or the chips differ.
        DataError: a file of an evaluation is damaged.
    """
    folder, evaluation, chips = _read_evaluation(first)
    other_folder, other, others = _read_evaluation(second)
    if other.classes != evaluation.classes:
        raise RequestError(
            "the two evaluations have different classes",
            other_folder,
            "compare runs on the same classes",
        )
    if not chips["class"].equals(others["class"]):
        shared = len(chips.index.intersection(others.index))
        raise RequestError(
            f"the evaluated chips differ: {len(chips):,} and {len(others):,} chips,"
            f" {shared:,} in both",
            f"{folder} and {other_folder}",
            "evaluate both runs on the same split of the same data",
        )
    index = {name: number for number, name in enumerate(evaluation.classes)}
    paired = compare_predictions(
        chips["predicted"].map(index).to_numpy(np.int64),
        others["predicted"].map(index).to_numpy(np.int64),
        chips["class"].map(index).to_numpy(np.int64),
        evaluation.groups,
    )
    return Comparison(
        str(folder),
        str(other_folder),
        (evaluation.method, other.method),
        len(chips),
        paired,
    )


def find_evaluation(folder: Path) -> Path:
    """Return the folder with the files of an evaluation.

    Args:
        folder: that folder, a run folder, or runs/<recipe> for its newest run.

    Raises:
        RequestError: the folder or a file of the evaluation is missing.
    """
    run = find_newest_run(folder)
    for candidate in (folder, run / "evaluation"):
        files = [candidate / name for name in (EVALUATION_FILE, PREDICTIONS_FILE)]
        if all(file.is_file() for file in files):
            return candidate
    missing = f"{EVALUATION_FILE} or {PREDICTIONS_FILE} is missing"
    raise RequestError(
        missing if run.is_dir() else "no such folder",
        run,
        "give a folder that `rsft evaluate BUNDLE DATA -o FOLDER` wrote",
    )


def _read_evaluation(folder: Path) -> tuple[Path, Evaluation, pd.DataFrame]:
    """Find an evaluation, and read it.

    Returns:
        Its folder, metrics.json, and true and predicted class by path of the chip.
    """
    found = find_evaluation(folder)
    evaluation = read_json(found / EVALUATION_FILE, Evaluation)
    table = read_file(found / PREDICTIONS_FILE, _read_predictions)
    return found, evaluation, table.set_index("path").sort_index()


def _read_predictions(path: Path) -> pd.DataFrame:
    table = read_parquet(path, ["path", "class", "predicted"])
    rows: pd.DataFrame = table.to_pandas()
    return rows


def read_json(path: Path, kind: type[T]) -> T:
    """Read a JSON file as a pydantic model or a type that pydantic supports.

    Raises:
        DataError: the file is damaged.
    """
    return read_file(
        path, lambda path: TypeAdapter(kind).validate_python(load_json(path))
    )


def read_file(path: Path, reader: Callable[[Path], T]) -> T:
    """Read a file of a run.

    Raises:
        DataError: the file is damaged.
    """
    errors = (
        ValueError,
        TypeError,
        KeyError,
        OSError,
        RecursionError,
        pa.ArrowException,
    )
    try:
        return reader(path)
    except errors as error:  # of json, pydantic, pandas and Arrow
        raise DataError(
            f"{path.name} is damaged ({error})", path, "run the job that wrote it again"
        ) from error
