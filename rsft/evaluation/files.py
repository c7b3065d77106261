"""Write the files of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.evaluation.schema import Evaluation
from rsft.models.uncertainty.calibrator import ConfidenceEstimate
from rsft.peft import Site
from rsft.utils.atomic_files import atomic_file, write_text

EVALUATION_FILE, PREDICTIONS_FILE = "metrics.json", "predictions.parquet"
EMBEDDING_FILE, CONTRIBUTIONS_FILE = "embedding.parquet", "contributions.csv"


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write metrics.json.

    Args:
        folder: folder of the evaluation.
        evaluation: content of the file.
    """
    write_text(folder / EVALUATION_FILE, json.dumps(evaluation.to_dict(), indent=1))


def write_predictions(
    folder: Path,
    chips: pd.DataFrame,
    classes: Sequence[str],
    probabilities: NDArray[np.float64],
    estimate: ConfidenceEstimate | None,
) -> None:
    """Write predictions.parquet.

    It has one row per chip: name, path, class, predicted and p_<class>. With an estimate it also has `set`, the names
    of the possible classes, and `ood`, which is above 1 for a chip unlike the training chips.

    Args:
        folder: folder of the evaluation.
        chips: the N rows of the manifest.
        classes: class names by index.
        probabilities: (N, C).
        estimate: class sets and out-of-distribution scores of the N chips; None without calibration.
    """
    names = np.array(classes)
    table = pd.DataFrame({key: chips[key].to_numpy() for key in ("name", "path", "class")})
    table["predicted"] = names[probabilities.argmax(1)]
    if estimate is not None:
        table["set"] = [names[members].tolist() for members in estimate.sets]
        table["ood"] = estimate.ood.astype(np.float32)
    table[[f"p_{name}" for name in names]] = probabilities.astype(np.float32)
    _write_parquet(folder / PREDICTIONS_FILE, table)


def write_embedding(folder: Path, table: pd.DataFrame) -> None:
    """Write embedding.parquet.

    Args:
        folder: folder of the evaluation.
        table: one row per chip of the map.
    """
    _write_parquet(folder / EMBEDDING_FILE, table)


def write_contributions(folder: Path, contributions: Mapping[Site, float]) -> None:
    """Write contributions.csv with one row per site. Without sites, delete the file of an earlier evaluation.

    Args:
        folder: folder of the evaluation.
        contributions: contribution of each site, relative to the frozen layer.
    """
    path = folder / CONTRIBUTIONS_FILE
    if not contributions:
        path.unlink(missing_ok=True)
        return
    rows = [{"block": site.block, "position": site.position, "share": share} for site, share in contributions.items()]
    with atomic_file(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    with atomic_file(path) as temporary:
        table.to_parquet(temporary, index=False)
