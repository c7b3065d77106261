"""Reads run folders: which runs exist, their state and results, and how their recipes differ. Does not import torch."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rsft.errors import RequestError, RsftError
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.types import GROUPS

METADATA_FILE, RECIPE_FILE, METRICS_FILE, CHECKPOINTS_DIR = "run.json", "recipe.yaml", "metrics.csv", "checkpoints"

RUN_MEASURES = ("micro", "macro", *GROUPS)
"""Accuracies that describe a run."""

TIMING_COLUMNS = ("seconds", "images_per_s", "data_s", "inner_s", "outer_s", "memory_mb", "gpu_mb")
"""Columns of metrics.csv that differ between repetitions of a run."""

CHANGEABLE_KEYS = ("data.workers", "train.device", "train.checkpoint_steps", "train.checkpoint_minutes")
"""Keys that may change when a run is resumed, because the result does not depend on them."""

_LOCK = ".lock"


@dataclass(frozen=True)
class RunInfo:
    """The content of a run folder.

    Attributes:
        folder: of the run.
        metadata: of run.json.
        recipe: with all defaults; None if it cannot be read.
        accuracy: 0-1 by measure, from the evaluation, or else from the last validation.
        faults: what is missing or damaged.
    """

    folder: Path
    metadata: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """running, done, failed, interrupted, killed (its process ended without a record), or broken."""
        if self.faults:
            return "broken"
        status = str(self.metadata.get("status", "broken"))
        return "killed" if status == "running" and not is_running(self.folder) else status

    @property
    def seconds(self) -> float | None:
        """Wall-clock seconds, summed over all resumed sessions."""
        return self.metadata.get("seconds")


def read_run_info(folder: Path) -> RunInfo:
    """Read a run folder; damaged files are listed as faults and raise no error.

    Args:
        folder: of the run.

    Returns:
        The content.

    Raises:
        RequestError: the folder does not exist.
    """
    if not folder.is_dir():
        raise RequestError("there is no such run", folder, "`rsft runs ls` lists the runs")
    faults: list[str] = []
    metadata, recipe = {}, None
    try:
        metadata = read_run_metadata(folder)
    except (OSError, ValueError, TypeError):
        faults.append(f"{METADATA_FILE} is missing or damaged")
    try:
        recipe = load_recipe(folder / RECIPE_FILE, stored=True)
    except RsftError as error:
        faults.append(f"{RECIPE_FILE}: {error.message}")
    return RunInfo(folder, metadata, recipe, _read_accuracy(folder), tuple(faults))


def read_run_metadata(folder: Path) -> dict[str, Any]:
    """Read run.json.

    Args:
        folder: of the run.

    Returns:
        The metadata of the run.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON.
        TypeError: it is not a JSON object.
    """
    return dict(json.loads((folder / METADATA_FILE).read_text("utf-8")))


def find_runs(folder: Path) -> list[RunInfo]:
    """Return the runs in a folder, in the order of their start.

    Args:
        folder: with all runs, with the runs of one recipe, or of one run.

    Returns:
        The runs, broken ones included.
    """
    run_folders = [path for path in (folder, *folder.glob("*"), *folder.glob("*/*")) if _is_run(path)]
    runs = [read_run_info(path) for path in dict.fromkeys(run_folders)]
    return sorted(runs, key=lambda run: (str(run.metadata.get("started", "")), str(run.folder)))


def find_unfinished_run(folder: Path) -> RunInfo:
    """Return the newest run in a folder that is neither done nor broken.

    Args:
        folder: as in `find_runs`.

    Returns:
        The run.

    Raises:
        RequestError: there is none.
    """
    unfinished = [run for run in find_runs(folder) if run.status not in ("done", "broken")]
    if not unfinished:
        raise RequestError("there is no unfinished run", folder, "`rsft runs ls` lists the runs")
    return unfinished[-1]


def resolve_resume(request: str | None, runs: Path, overrides: Sequence[str] = ()) -> tuple[RunInfo, Recipe]:
    """Find the run to continue, and its recipe for this session.

    Args:
        request: a run folder, or a recipe, which means its newest unfinished run; None means the newest unfinished run
            of all recipes.
        runs: folder with all runs.
        overrides: `section.key=value` for keys of `CHANGEABLE_KEYS`.

    Returns:
        The run, and its recipe with the overrides.

    Raises:
        RequestError: the run does not exist or is broken, or an override changes another key.
    """
    folder = runs if request is None else Path(request)
    if request is not None and not folder.is_dir():
        folder = runs / load_recipe(find_recipe(request)).name
    run = read_run_info(folder) if _is_run(folder) else find_unfinished_run(folder)
    if run.recipe is None or run.faults:
        raise RequestError("; ".join(run.faults), run.folder, "start a new run of the recipe")
    if not overrides:
        return run, run.recipe
    recipe = load_recipe(run.folder / RECIPE_FILE, overrides, stored=True)
    changed = [key for key in recipe_differences([run, replace(run, recipe=recipe)]) if key not in CHANGEABLE_KEYS]
    if changed:
        hint = f"resume without it, or start a new run: rsft finetune {run.folder / RECIPE_FILE} {' '.join(overrides)}"
        raise RequestError(f"{', '.join(changed)} cannot change when a run is resumed", run.folder, hint)
    return run, recipe


def remove_run(run: RunInfo) -> None:
    """Delete a run folder.

    Args:
        run: to delete.

    Raises:
        RequestError: the run is in progress.
    """
    if is_running(run.folder):
        raise RequestError("the run is in progress", run.folder, "stop it first, with Ctrl-C or SIGTERM")
    shutil.rmtree(run.folder)


def recipe_differences(runs: Sequence[RunInfo]) -> dict[str, list[Any]]:
    """Return the recipe keys in which runs differ.

    Args:
        runs: to compare.

    Returns:
        By dotted key, one value per run; None stands for a section that is left out.
    """
    flat = [run.recipe.flatten() if run.recipe else {} for run in runs]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = {key: [values.get(key) for values in flat] for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def lock_run(folder: Path, timeout_s: float = 10.0) -> FileLock:
    """Mark a run as in progress, by a file lock that ends with the process at the latest.

    Args:
        folder: of the run.
        timeout_s: seconds to wait for the lock; workers of a killed process keep it a little longer.

    Returns:
        The lock, which is acquired.

    Raises:
        RequestError: another process holds it.
    """
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout as error:
        raise RequestError("the run is in progress in another process", folder, "wait for it, or stop it") from error
    except NotImplementedError:  # a file system without locks
        pass
    return lock


def is_running(folder: Path) -> bool:
    """Return whether a process works on a run; False if that cannot be determined.

    Args:
        folder: of the run.
    """
    if not (folder / _LOCK).is_file():
        return False
    try:
        with FileLock(folder / _LOCK).acquire(blocking=False):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # no permission, or a file system without locks
        return False


def _is_run(path: Path) -> bool:
    return path.is_dir() and (path.name.isdigit() or (path / METADATA_FILE).is_file())


def _read_accuracy(folder: Path) -> dict[str, float]:
    """Return accuracies by measure, without unknown ones."""
    with suppress(OSError, ValueError, KeyError, TypeError, StopIteration):
        methods = json.loads((folder / "evaluation/metrics.json").read_text("utf-8"))["methods"]
        run_measures = next(iter(methods.values()))
        return {name: float(run_measures[name]["value"]) for name in RUN_MEASURES if run_measures.get(name)}
    with suppress(OSError, ValueError, KeyError), (folder / METRICS_FILE).open(encoding="utf-8", newline="") as file:
        for row in reversed(list(csv.DictReader(file))):
            accuracy = {name: float(row[f"val_{name}"]) for name in RUN_MEASURES if row.get(f"val_{name}")}
            if accuracy:
                return accuracy
    return {}
