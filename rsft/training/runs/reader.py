"""The folders that runs leave: which there are, what came out of them, how they differ. Needs no torch."""

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
from rsft.recipe.load import flatten, load_recipe
from rsft.recipe.schema import Recipe

FACTS, RECIPE, METRICS, CHECKPOINTS = "run.json", "recipe.yaml", "metrics.csv", "checkpoints"
MEASURES = ("micro", "macro", "head", "medium", "tail")
TIMING = ("seconds", "images_per_s", "data_s", "inner_s", "outer_s", "memory_mb", "gpu_mb")
"""The columns of metrics.csv that differ from one machine, and one hour, to the next."""

HARMLESS = ("data.workers", "train.device", "train.checkpoint_steps", "train.checkpoint_minutes")
"""Keys that may change when a run is resumed: the numbers do not depend on them."""

_LOCK = ".lock"


@dataclass(frozen=True)
class RunInfo:
    """What the folder of a run says.

    Attributes:
        facts: of run.json.
        recipe: the resolved recipe; None where it cannot be read.
        accuracy: of its evaluation, as 0-1, or of its last validation where it has none.
        faults: what is missing or damaged.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = None
    accuracy: dict[str, float] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """running, done, failed, interrupted, killed (its process is gone without a word), or broken."""
        if self.faults:
            return "broken"
        status = str(self.facts.get("status", "broken"))
        return "killed" if status == "running" and not is_held(self.folder) else status

    @property
    def seconds(self) -> float | None:
        """That it took, over all its sittings."""
        return self.facts.get("seconds")


def read_run(folder: Path) -> RunInfo:
    """What is in the folder of a run; whatever is wrong with it is told, not raised.

    Raises:
        RequestError: there is no such folder.
    """
    if not folder.is_dir():
        raise RequestError("there is no such run", folder, "`rsft runs ls` lists those there are")
    faults: list[str] = []
    facts, recipe = {}, None
    try:
        facts = dict(json.loads((folder / FACTS).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        faults.append(f"{FACTS} is missing or damaged")
    try:
        recipe = load_recipe(folder / RECIPE)
    except RsftError as error:
        faults.append(f"{RECIPE}: {error.what}")
    return RunInfo(folder, facts, recipe, _accuracy(folder), tuple(faults))


def find_runs(place: Path) -> list[RunInfo]:
    """The runs in `place`: a folder of runs, of one recipe's runs, or a run; in the order of their start."""
    numbered = [path for path in (place, *place.glob("*"), *place.glob("*/*")) if _is_run(path)]
    runs = [read_run(path) for path in dict.fromkeys(numbered)]
    return sorted(runs, key=lambda run: (str(run.facts.get("started", "")), str(run.folder)))


def find_unfinished(place: Path) -> RunInfo:
    """The newest run in `place` that is not done.

    Raises:
        RequestError: there is none.
    """
    unfinished = [run for run in find_runs(place) if run.status not in ("done", "broken")]
    if not unfinished:
        raise RequestError("there is no unfinished run", place, "`rsft runs ls` lists the runs")
    return unfinished[-1]


def take_up(wish: str | None, runs: Path, overrides: Sequence[str] = ()) -> tuple[RunInfo, Recipe]:
    """The run to go on with, and its recipe for this sitting.

    Args:
        wish: its folder, or a recipe of which the newest unfinished run is meant; None means that of all recipes.
        overrides: keys to change, of those in `HARMLESS`.

    Raises:
        RequestError: there is no such run, it is broken, or a key must stay.
    """
    place = runs if wish is None else Path(wish)
    if wish is not None and not place.is_dir():
        place = runs / load_recipe(find_recipe(wish)).name
    run = read_run(place) if _is_run(place) else find_unfinished(place)
    if run.recipe is None or run.faults:
        raise RequestError("; ".join(run.faults), run.folder, "start the recipe again")
    recipe = load_recipe(run.folder / RECIPE, overrides)
    changed = [key for key in differences([run, replace(run, recipe=recipe)]) if key not in HARMLESS]
    if changed:
        fix = f"resume without it, or start a new run: rsft finetune {run.folder / RECIPE} {' '.join(overrides)}"
        raise RequestError(f"a run goes on as it began: {', '.join(changed)} cannot change", run.folder, fix)
    return run, recipe


def remove(run: RunInfo) -> None:
    """Remove the folder of a run.

    Raises:
        RequestError: it still goes on.
    """
    if is_held(run.folder):
        raise RequestError("the run still goes on", run.folder, "stop it first, with Ctrl-C or SIGTERM")
    shutil.rmtree(run.folder)


def differences(runs: Sequence[RunInfo]) -> dict[str, list[Any]]:
    """The keys of the recipes that differ, with the values of each run; None stands for a section that is off."""
    flat = [flatten(run.recipe) if run.recipe else {} for run in runs]
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = {key: [each.get(key) for each in flat] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def hold(folder: Path, patience: float = 10.0) -> FileLock:
    """Mark a run as going on, by a lock that ends with whoever keeps it, or with the process.

    The workers of a process that was killed hold its lock some seconds longer, so it is waited for.

    Raises:
        RequestError: another process holds it.
    """
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise RequestError("the run still goes on, in another process", folder, "wait for it, or stop it") from error
    except NotImplementedError:  # a file system without locks
        pass
    return lock


def is_held(folder: Path) -> bool:
    """Whether a process is at work on a run; where that cannot be told, none is."""
    if not (folder / _LOCK).is_file():
        return False
    try:
        with FileLock(folder / _LOCK).acquire(blocking=False):
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # not ours to write, or a file system without locks
        return False


def _is_run(path: Path) -> bool:
    return path.is_dir() and (path.name.isdigit() or (path / FACTS).is_file())


def _accuracy(folder: Path) -> dict[str, float]:
    """By measure, without those that are not known."""
    with suppress(OSError, ValueError, KeyError, TypeError, StopIteration):
        methods = json.loads((folder / "evaluation/metrics.json").read_text("utf-8"))["methods"]
        own = next(iter(methods.values()))
        return {name: float(own[name]["value"]) for name in MEASURES if own.get(name)}
    with suppress(OSError, ValueError, KeyError), (folder / METRICS).open(encoding="utf-8", newline="") as file:
        for row in reversed(list(csv.DictReader(file))):
            if found := {name: float(row[f"val_{name}"]) for name in MEASURES if row.get(f"val_{name}")}:
                return found
    return {}
