"""The outcome of a trial: one JSON file in its folder.

These files alone decide which trials have ended.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rsft.recipe.text import to_yaml
from rsft.study.trials import Trial
from rsft.training.runs.reader import (
    RunInfo,
    find_runs,
    hash_data,
    read_data_hash,
    read_epochs,
)
from rsft.types import JsonObject
from rsft.utils.atomic_files import write_json
from rsft.utils.untrusted.documents import load_json

TRIALS = "trials"
"""Folder of all trials."""
OUTCOME = "trial.json"
RECIPE = "recipe.yaml"
"""An ordinary recipe for `rsft finetune`."""

ACCURACIES = ("micro", "macro", "macro_f1", "avg", "head", "medium", "tail")
"""Accuracies in metrics.json that an outcome contains."""

Status = Literal["done", "failed", "stopped"]


@dataclass(frozen=True)
class TrialOutcome:
    """Outcome of a trial.

    Attributes:
        keys: recipe keys that the study set.
        status: "done", "failed", or "stopped" by the scheduler of the sweep.
        metrics: last row of metrics.csv, and the accuracy on the evaluated split.
        seconds: duration of the run, summed over all resumed sessions.
        run: run folder; "" if the trial failed before it was made.
        data: SHA-256 of the manifest of the training data.
    """

    keys: JsonObject
    status: Status
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    run: str = ""
    data: str = ""

    def save(self, folder: Path) -> None:
        """Write the outcome to the folder of the trial, whole or not at all."""
        write_json(folder / OUTCOME, asdict(self))


def read_outcome(folder: Path) -> TrialOutcome | None:
    """Return the outcome in the folder of a trial; None if it is missing or damaged."""
    try:
        return TrialOutcome(**load_json(folder / OUTCOME))
    except (OSError, ValueError, TypeError):
        return None


def read_outcomes(folder: Path, trials: Iterable[Trial]) -> dict[str, TrialOutcome]:
    """Return outcomes by trial id, without those of other data than the present data.

    Args:
        folder: folder of the study.
        trials: its trials.
    """
    hashes = {}
    outcomes = {}
    for trial in trials:
        data = trial.recipe.data
        chips = (data.root, data.unlabeled)
        if chips not in hashes:
            hashes[chips] = hash_data(data)
        outcome = read_outcome(folder / TRIALS / trial.id)
        if not outcome:
            continue
        if not outcome.data or hashes[chips] in ("", outcome.data):
            outcomes[trial.id] = outcome
    return outcomes


def read_run_outcome(
    folder: Path,
    keys: Mapping[str, Any],
    status: Status,
    reason: str,
    metric: str = "",
) -> TrialOutcome:
    """Read the outcome of a trial from its run; a failed one has no metrics.

    Args:
        folder: folder of the trial.
        keys: recipe keys that the study set.
        status: how the trial ended.
        reason: why it failed or was stopped.
        metric: a trial that is done has failed if this metric is not a finite number.
    """
    run = RunInfo(Path())
    metrics = {}
    place = ""
    runs = find_runs(folder)
    if runs:
        run = runs[-1]
        place = str(run.folder)
        if status != "failed":
            metrics = _read_metrics(run.folder)
    if status == "done" and metric not in metrics:
        status = "failed"
        reason = f"{metric} is not a number"
        metrics = {}
    data = read_data_hash(run.metadata)
    seconds = run.seconds or 0.0
    return TrialOutcome(dict(keys), status, reason, metrics, seconds, place, data)


def _read_metrics(run: Path) -> dict[str, float]:
    """Return the finite numbers of the last epoch and of the evaluation."""
    metrics = dict(read_epochs(run)[-1])
    evaluation = run / "evaluation/metrics.json"
    if evaluation.is_file():
        method = next(iter(load_json(evaluation)["methods"].values()))
        for name in ACCURACIES:
            if method.get(name):
                metrics[name] = method[name]["value"]
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def describe_keys(keys: Mapping[str, Any]) -> str:
    """Return keys and values in one line, with lists and sections as YAML."""
    words = []
    for key, value in keys.items():
        is_nested = isinstance(value, list | dict)
        words.append(f"{key} {to_yaml(value) if is_nested else value}")
    return "  ".join(words)


def format_measure(name: str, value: Any) -> str:
    """Return a value of a column as text: accuracies in %, losses with three digits."""
    if not isinstance(value, float):
        return str(value)
    if "." in name or name == "seconds":
        return f"{value:g}"
    if name.endswith("loss"):
        return f"{value:.3f}"
    return f"{100 * value:.1f}"
