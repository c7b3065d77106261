"""Write the files of an evaluation, and compare two evaluations chip by chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rsft.errors import DataError, RequestError
from rsft.metrics.comparison import PairedDifferences, compare_predictions
from rsft.models.uncertainty.calibrator import ConfidenceEstimate
from rsft.peft import Site
from rsft.training.runs.reader import find_newest_run
from rsft.utils.atomic_files import atomic_file
from rsft.utils.tables import read_parquet
from rsft.utils.untrusted.documents import load_json

EVALUATION_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.parquet"
EMBEDDING_FILE = "embedding.parquet"
CONTRIBUTIONS_FILE = "contributions.csv"


def write_predictions(
    folder: Path,
    chips: pd.DataFrame,
    classes: Sequence[str],
    probabilities: NDArray[np.float64],
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
    if estimate is not None:
        table["class_set"] = [names[members].tolist() for members in estimate.sets]
        table["ood"] = estimate.ood.astype(np.float32)
    table[[f"p_{name}" for name in names]] = probabilities.astype(np.float32)
    _write_parquet(folder / PREDICTIONS_FILE, table)


def write_representation(
    folder: Path, table: pd.DataFrame, contributions: Mapping[Site, float]
) -> None:
    """Write embedding.parquet and contributions.csv.

    Without sites, delete contributions.csv of an earlier evaluation.

    Args:
        folder: folder of the evaluation.
        table: one row per chip of the map.
        contributions: contribution of each site, relative to the frozen layer.
    """
    _write_parquet(folder / EMBEDDING_FILE, table)
    path = folder / CONTRIBUTIONS_FILE
    if not contributions:
        path.unlink(missing_ok=True)
        return
    rows = [
        {"block": site.block, "position": site.position, "share": share}
        for site, share in contributions.items()
    ]
    with atomic_file(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
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
    folders, metrics, tables = zip(*map(_read_evaluation, (first, second)), strict=True)
    classes = metrics[0]["classes"]
    if metrics[1]["classes"] != classes:
        raise RequestError(
            "the two evaluations have different classes",
            folders[1],
            "compare runs on the same classes",
        )
    chips, others = tables
    if not chips["class"].equals(others["class"]):
        shared = len(chips.index.intersection(others.index))
        raise RequestError(
            (
                f"the evaluated chips differ: {len(chips):,} and {len(others):,} chips,"
                f" {shared:,} in both"
            ),
            f"{folders[0]} and {folders[1]}",
            "evaluate both runs on the same split of the same data",
        )
    index = {name: number for number, name in enumerate(classes)}
    columns = (chips["predicted"], others["predicted"], chips["class"])
    predicted, reference, labels = (
        column.map(index).to_numpy(np.int64) for column in columns
    )
    paired = compare_predictions(predicted, reference, labels, metrics[0]["groups"])
    method, other = (next(iter(values["methods"])) for values in metrics)
    return Comparison(
        str(folders[0]), str(folders[1]), (method, other), len(chips), paired
    )


def _read_evaluation(folder: Path) -> tuple[Path, dict[str, Any], pd.DataFrame]:
    """Find an evaluation, and read its classes, methods, groups and predictions.

    True and predicted class are by path of the chip.
    """
    run = find_newest_run(folder)
    names = (EVALUATION_FILE, PREDICTIONS_FILE)
    folders = [
        x
        for x in (folder, run / "evaluation")
        if all((x / name).is_file() for name in names)
    ]
    if not folders:
        raise RequestError(
            f"{EVALUATION_FILE} or {PREDICTIONS_FILE} is missing",
            run,
            "evaluate the run first: rsft evaluate",
        )
    path = folders[0] / EVALUATION_FILE
    try:
        metrics = load_json(path)
        metrics = {key: metrics[key] for key in ("classes", "methods", "groups")}
        path = folders[0] / PREDICTIONS_FILE
        table = read_parquet(path, ["path", "class", "predicted"]).to_pandas()
    # of damaged metadata, too
    except (
        ValueError,
        KeyError,
        TypeError,
        OSError,
        pa.ArrowException,
    ) as error:
        raise DataError("the file is damaged", path, "evaluate again") from error
    return folders[0], metrics, table.set_index("path").sort_index()
