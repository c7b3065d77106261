"""The files of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rsft.models.uncertainty.calibrator import Judgement
from rsft.peft import Site
from rsft.utils.atomic_files import replacing, write_text

METRICS, PREDICTIONS = "metrics.json", "predictions.parquet"
EMBEDDING, CONTRIBUTIONS = "embedding.parquet", "contributions.csv"


def write_metrics(out: Path, metrics: Mapping[str, Any]) -> None:
    """Write metrics.json."""
    write_text(out / METRICS, json.dumps(metrics, indent=1))


def write_predictions(
    out: Path,
    chips: pd.DataFrame,
    classes: Sequence[str],
    probabilities: NDArray[np.float64],
    judged: Judgement | None,
) -> None:
    """Write predictions.parquet: name, path, class, predicted and p_<class> of every chip.

    With a judgement also `set`, the names of the classes that it may be, and `ood`, above 1 where it is strange.
    """
    names = np.array(classes)
    table = pd.DataFrame({key: chips[key].to_numpy() for key in ("name", "path", "class")})
    table["predicted"] = names[probabilities.argmax(1)]
    if judged is not None:
        table["set"] = [names[held].tolist() for held in judged.sets]
        table["ood"] = judged.ood.astype(np.float32)
    table[[f"p_{name}" for name in names]] = probabilities.astype(np.float32)
    _write_parquet(out / PREDICTIONS, table)


def write_embedding(out: Path, table: pd.DataFrame) -> None:
    """Write embedding.parquet."""
    _write_parquet(out / EMBEDDING, table)


def write_contributions(out: Path, shares: Mapping[Site, float]) -> None:
    """Write contributions.csv, a row a site; without sites there is none."""
    path = out / CONTRIBUTIONS
    if not shares:
        path.unlink(missing_ok=True)  # of an earlier evaluation
        return
    rows = [{"block": site.block, "position": site.position, "share": share} for site, share in shares.items()]
    with replacing(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.6g")


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
