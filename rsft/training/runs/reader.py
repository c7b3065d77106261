"""Read run folders: find runs, their status and results, and compare recipes.

This module imports no torch.
"""

import csv
import hashlib
import io
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rsft.errors import RequestError, RsftError
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import DataSection, Recipe
from rsft.types import GROUPS, JsonObject, Names
from rsft.utils.atomic_files import sha256
from rsft.utils.untrusted.documents import load_json, read_regular_text

PSEUDO_LABELS_FILE = "pseudo_labels.csv"
"""Chips with a pseudo-label by class and epoch, in a run with unlabeled chips."""
METADATA_FILE = "run.json"
RECIPE_FILE = "recipe.yaml"
METRICS_FILE = "metrics.csv"
CHECKPOINTS_DIR = "checkpoints"

RUN_MEASURES = ("micro", "macro", *GROUPS)
"""Names of the accuracies of a run."""

_LONGEST_RUN_S = 1e9  # 30 years

TIMING_COLUMNS = (
    "seconds",
    "images_per_s",
    "data_s",
    "inner_s",
    "outer_s",
    "memory_mb",
    "gpu_mb",
)
"""Columns of metrics.csv that differ between repetitions of a run."""

CHANGEABLE_KEYS = (
    "data.workers",
    "train.device",
    "train.checkpoint_steps",
    "train.checkpoint_minutes",
)
"""Keys on which the result of a run does not depend."""

TRAINED = ("trained", "done")
"""Status of a run whose bundle is complete. After "trained", evaluation and report
follow."""

OUTPUTS = {"evaluation": "evaluation/metrics.json", "report": "report.html"}
"""Files that complete a trained run."""

_LOCK = ".lock"

_TYPES = {
    "data": dict,
    "hardware": dict,
    "pool": dict | None,
    "position": list,
    "resumed": list,
    "tracking": dict,
}
"""Types of the values in run.json that are read further."""


@dataclass(frozen=True)
class RunInfo:
    """The content of a run folder.

    Attributes:
        folder: the run folder.
        metadata: the content of run.json.
        recipe: the recipe, with all defaults filled in; None if it cannot be read.
        accuracy: measure -> accuracy, 0-1, from the evaluation, or else from the last
            validation.
        faults: descriptions of missing or damaged files.
        leaks: number of evaluated chips that make the accuracy too high, see
            `rsft.evaluation.schema.Leaks`.
    """

    folder: Path
    metadata: JsonObject = field(default_factory=dict)
    recipe: Recipe | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    faults: Names = ()
    leaks: int = 0

    @property
    def status(self) -> str:
        """The status: running, trained, done, failed, interrupted, killed or broken.

        The end of a killed run was not recorded; a broken run has faults.

        Evaluation and report of a trained run are not complete.
        """
        if self.faults:
            return "broken"
        status = str(self.metadata.get("status", "broken"))
        if status not in ("running", "trained"):
            return status
        if is_running(self.folder):
            return "running"
        if status == "running":
            return "killed"
        return status

    @property
    def seconds(self) -> float | None:
        """Wall-clock seconds of all sessions; None if run.json has none."""
        seconds = self.metadata.get("seconds")
        if isinstance(seconds, int | float) and 0 <= seconds <= _LONGEST_RUN_S:
            return seconds
        return None


def read_run_info(folder: Path) -> RunInfo:
    """Read a run folder; list damaged files as faults instead of raising an error.

    Raises:
        RequestError: the folder does not exist.
    """
    if not folder.is_dir():
        raise RequestError(
            "the run folder does not exist", folder, "`rsft runs ls` lists the runs"
        )
    faults = []
    metadata = {}
    recipe = None
    try:
        metadata = read_run_metadata(folder)
    except (OSError, ValueError, TypeError):
        faults.append(f"{METADATA_FILE} is missing or damaged")
    try:
        recipe = _load_recipe(folder, metadata)
    except RsftError as error:
        faults.append(f"{RECIPE_FILE}: {error.message}")
    accuracy, leaks = _read_accuracy(folder)
    return RunInfo(folder, metadata, recipe, accuracy, tuple(faults), leaks)


def _load_recipe(folder: Path, metadata: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a run; that of a run of rsft 0.2 keeps its stretch."""
    recipe = load_recipe(folder / RECIPE_FILE)
    if metadata and "auto_stretch" not in metadata and recipe.data.stretch == "auto":
        return recipe.with_keys("data", stretch="auto-0.2")
    return recipe


def read_run_metadata(folder: Path) -> JsonObject:
    """Read run.json.

    Returns:
        Its content: status, position, recipe, versions, hashes and counts, see
            docs/runs.md.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not JSON.
        TypeError: it is not a JSON object, or a value of it has another type.
    """
    metadata = dict(load_json(folder / METADATA_FILE))
    for key, kind in _TYPES.items():
        if key in metadata and not isinstance(metadata[key], kind):
            raise TypeError(f"{key} has another type")
    return metadata


def hash_manifest(root: Path | str) -> str:
    """Return the SHA-256 of the manifest of a chip store; "" if it is missing."""
    from rsft.data.chips.manifest import MANIFEST

    path = Path(root) / MANIFEST
    if path.is_file():
        return sha256(path)
    return ""


def require_same_chips(run: RunInfo, data: DataSection) -> None:
    """Raise an error if chips are not those that a run began with.

    Raises:
        RequestError: the manifest of the store or the unlabeled chips have changed, or
            run.json does not name their hash.
    """
    before = read_data_hash(run.metadata)
    require_same_hash(run, data.root, "the chips", before, hash_data(data))


def require_same_hash(
    run: RunInfo, root: Path | str, name: str, before: str, now: str
) -> None:
    """Raise an error if an input of a run has changed since the run began.

    Args:
        run: the run.
        root: folder of its chip store.
        name: the input, in the plural.
        before: hash of the input in run.json.
        now: its present hash.

    Raises:
        RequestError: the hashes differ.
    """
    if before != now:
        raise RequestError(
            f"{name} have changed since the run began (hash {before[:12]}, now"
            f" {now[:12]})",
            f"{run.folder}, chips {root}",
            "restore them, or start a new run of the recipe",
        )


def describe_data(data: DataSection) -> JsonObject:
    """Return the entries "data" and "classes" of run.json for a chip store."""
    from rsft.data.chips.manifest import MANIFEST
    from rsft.data.chips.store import ChipStore

    root = Path(data.root)
    entry = {"root": str(root.resolve()), "manifest_sha256": hash_manifest(root)}
    entry |= {} if data.unlabeled is None else {"sha256": hash_data(data)}
    return {
        "data": entry,
        "classes": (
            list(ChipStore.open(root).classes) if (root / MANIFEST).is_file() else []
        ),
    }


def find_runs_folder(runs: Path, name: str) -> Path:
    """Return the folder of the runs of a name, with "-" in place of blanks.

    A folder with blanks is used if it exists, because rsft 0.2 made such folders.
    """
    folder = runs / name
    if folder.is_dir():
        return folder
    return runs / re.sub(r"\s+", "-", name)


def choose_runs_folder(runs: Path, name: str, entries: Mapping[str, Any]) -> Path:
    """Return the folder for a new run: that of its name, if its data are the same.

    If the newest readable run in it has other data, the name gets the suffix -<store>.
    Other data is another chip store (with another folder and another manifest), or one
    that lacks a class of the earlier run. A store may grow.

    Args:
        runs: the folder of all runs.
        name: name of the recipe.
        entries: chips and classes of the new run, see `describe_data`.
    """
    longer = f"{name}-{Path(entries['data']['root']).name}"
    names = chain((name, longer), (f"{longer}-{number}" for number in count(2)))
    folders = (find_runs_folder(runs, candidate) for candidate in names)
    return next(folder for folder in folders if not _has_other_data(folder, entries))


def _has_other_data(folder: Path, entries: Mapping[str, Any]) -> bool:
    for run in reversed(numbered_runs(folder)):
        # a damaged run
        with suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
            earlier = read_run_metadata(run)
            data = entries["data"]
            is_other_store = all(
                earlier["data"][key] != data[key] for key in ("root", "manifest_sha256")
            )
            return is_other_store or not set(earlier.get("classes", ())) <= set(
                entries["classes"]
            )
    return False


def hash_data(data: DataSection) -> str:
    """Return the hash of a recipe's chips; "" if some are missing."""
    from rsft.data.loading.pool import hash_files

    manifest = hash_manifest(data.root)
    if data.unlabeled is None:
        return manifest
    files = hash_files(data.unlabeled)
    if manifest and files:
        return hashlib.sha256(f"{manifest} {files}".encode()).hexdigest()
    return ""


def read_data_hash(metadata: Mapping[str, Any]) -> str:
    """Return the hash of the chips in the content of run.json; "" without one."""
    data = metadata.get("data", {})
    return str(data.get("sha256") or data.get("manifest_sha256") or "")


def find_runs(folder: Path) -> list[RunInfo]:
    """Return the runs of a folder, in the order of their start.

    Returns:
        The runs, broken ones included.
    """
    run_folders = [
        path
        for path in (folder, *folder.glob("*"), *folder.glob("*/*"))
        if _is_run(path)
    ]
    runs = [read_run_info(path) for path in dict.fromkeys(run_folders)]
    return sorted(
        runs, key=lambda run: (str(run.metadata.get("started", "")), str(run.folder))
    )


def find_newest_run(folder: Path) -> Path:
    """Return a run folder itself, or the newest run of a recipe's folder.

    Returns:
        The run folder; `folder` itself if it contains no run.
    """
    if (folder / METADATA_FILE).is_file() or not folder.is_dir():
        return folder
    return [folder, *numbered_runs(folder)][-1]


def numbered_runs(folder: Path) -> list[Path]:
    """Return the folders in a folder whose names are numbers, in their order."""
    runs = [x for x in folder.glob("*") if x.name.isdecimal() and x.is_dir()]
    return sorted(runs, key=lambda run: int(run.name))


def resolve_resume(request: str | None, runs: Path) -> tuple[RunInfo, Recipe]:
    """Find the run to continue.

    Args:
        request: a run folder, or a recipe for its newest unfinished run; None for the
            newest unfinished run of all recipes.
        runs: the folder of all runs.

    Returns:
        The run and its recipe.

    Raises:
        RequestError: no such run or no unfinished one, or the run is broken.
    """
    run = _find_unfinished(request, runs)
    if not run.recipe or run.faults:
        raise RequestError(
            "; ".join(run.faults), run.folder, "start a new run of the recipe"
        )
    return run, run.recipe


def _find_unfinished(request: str | None, runs: Path) -> RunInfo:
    """Return a run by its folder, or the newest unfinished run of a recipe or of all.

    Raises:
        RequestError: no unfinished run.
    """
    name = None
    folder = runs if request is None else Path(request)
    candidates = folder
    if request is not None and not folder.is_dir():
        name = load_recipe(find_recipe(request)).name
        folder = find_runs_folder(runs, name)
        candidates = runs  # runs of other data are in other folders of `runs`
    if _is_run(folder):
        return read_run_info(folder)
    for run in reversed(find_runs(candidates)):
        is_named = run.recipe is not None and name in (None, run.recipe.name)
        if is_named and run.status not in ("done", "broken"):
            return run
    raise RequestError(
        "no unfinished run",
        folder,
        "`rsft runs ls` lists the runs; of chips or a chip store, repeat the command"
        " without --resume",
    )


def remove_run(run: RunInfo) -> None:
    """Delete a run folder.

    Raises:
        RequestError: the run is in progress.
    """
    if is_running(run.folder):
        raise RequestError(
            "the run is in progress",
            run.folder,
            "stop it first, with Ctrl-C or SIGTERM",
        )
    shutil.rmtree(run.folder)


def recipe_differences(runs: Sequence[RunInfo]) -> dict[str, list[Any]]:
    """Return the recipe keys in which some runs differ.

    Returns:
        Dotted key -> one value per run; None if the recipe of the run lacks the
        section.
    """
    flat = [run.recipe.flatten() if run.recipe else {} for run in runs]
    keys = dict.fromkeys(chain.from_iterable(flat))
    rows = {key: [values.get(key) for values in flat] for key in keys}
    return {
        key: row for key, row in rows.items() if any(value != row[0] for value in row)
    }


def lock_run(folder: Path, timeout_s: float = 10.0) -> FileLock:
    """Mark a run as in progress by a file lock, which ends with the process.

    The workers of a killed process hold it a little longer, which is why there is a
    timeout.

    Returns:
        The acquired lock.

    Raises:
        RequestError: another process holds it.
    """
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout as error:
        raise RequestError(
            "the run is in progress in another process",
            folder,
            "wait for it, or stop it",
        ) from error
    except NotImplementedError:  # a file system without locks
        pass
    return lock


def is_running(folder: Path) -> bool:
    """Return whether a process works on a run; False if this cannot be determined."""
    if not (folder / _LOCK).is_file():
        return False
    try:
        with FileLock(folder / _LOCK).acquire(blocking=False):
            return False
    except Timeout:
        return True
    # no permission, or a file system without locks
    except (
        OSError,
        NotImplementedError,
    ):
        return False


Epoch = dict[str, float]
"""A row of metrics.csv, without the columns that it leaves empty."""


def read_epochs(run: Path) -> list[Epoch]:
    """Return the finished epochs of a run."""
    text = read_regular_text(run / METRICS_FILE)
    epochs = []
    for row in csv.DictReader(io.StringIO(text)):
        epochs.append({name: float(value) for name, value in row.items() if value})
    return epochs


def _is_run(path: Path) -> bool:
    return path.is_dir() and (path.name.isdecimal() or (path / METADATA_FILE).is_file())


def _read_accuracy(folder: Path) -> tuple[dict[str, float], int]:
    """Return the known accuracies by measure, and the number of leaking chips."""
    with suppress(
        OSError, ValueError, KeyError, TypeError, StopIteration, AttributeError
    ):
        evaluation = load_json(folder / OUTPUTS["evaluation"])
        measures = next(iter(evaluation["methods"].values()))
        accuracy = {
            name: float(measures[name]["value"])
            for name in RUN_MEASURES
            if measures.get(name)
        }
        return accuracy, int((evaluation.get("leaks") or {}).get("chips", 0))
    with suppress(OSError, ValueError, TypeError, csv.Error):
        for epoch in reversed(read_epochs(folder)):
            accuracy = {
                name: epoch[f"val_{name}"]
                for name in RUN_MEASURES
                if f"val_{name}" in epoch
            }
            if accuracy:
                return accuracy, 0
    return {}, 0
