"""Train and evaluate one trial in its folder, or resume its unfinished run."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsft.errors import Interrupted, RecipeError, RsftError
from rsft.recipe.schema import Recipe
from rsft.study.outcomes import RECIPE, TrialOutcome, read_run_outcome
from rsft.training.listeners import RunListener
from rsft.training.runs.reader import (
    TRAINED,
    RunInfo,
    find_runs,
    hash_data,
    read_data_hash,
)
from rsft.types import Progress


class StoppedEarlyError(Interrupted):
    """A listener ended the trial, which keeps its metrics and is not resumed.

    Args:
        reason: why, for the outcome of the trial.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(signal.SIGTERM)
        self.message = reason


def run_trial(
    folder: Path, keys: Mapping[str, Any], metric: str, listener: RunListener
) -> TrialOutcome:
    """Run a trial in this process, and save its outcome in its folder.

    Args:
        folder: folder of the trial, with its recipe.
        keys: recipe keys that the study set.
        metric: the trial fails if this metric is not a finite number at the end.
        listener: receives the events of the run.

    Raises:
        Interrupted: the listener, SIGINT or SIGTERM stopped the run, which can be
            resumed.
    """
    began = time.monotonic()
    try:
        train_in_folder(folder, listener)
        outcome = read_run_outcome(folder, keys, "done", "", metric)
    except StoppedEarlyError as error:
        outcome = read_run_outcome(folder, keys, "stopped", error.message)
    except Interrupted:
        raise
    except RsftError as error:
        outcome = read_run_outcome(folder, keys, "failed", _describe_error(error))
    except (RuntimeError, MemoryError) as error:  # such as a lack of memory of a GPU
        reason = str(error) or type(error).__name__
        outcome = read_run_outcome(folder, keys, "failed", reason)
    if not outcome.seconds:
        outcome = replace(outcome, seconds=round(time.monotonic() - began, 1))
    outcome.save(folder)
    return outcome


def _describe_error(error: RsftError) -> str:
    parts = [error.message, error.location]
    if isinstance(error, RecipeError):
        parts += ["; ".join(f"{x.key}: {x.allowed}" for x in error.faults)]
    return ": ".join(filter(None, parts))


def train_in_folder(folder: Path, listener: RunListener) -> None:
    """Train and evaluate the recipe in the folder of a trial in this process.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RsftError: the recipe cannot be trained.
    """
    from rsft.recipe.load import load_recipe
    from rsft.training.finetune import finetune

    source = folder / RECIPE
    run = _unfinished_run(folder)
    if not run or not run.recipe:
        recipe = load_recipe(source)
        path = finetune(recipe, folder, listener, source=source).folder
    else:
        recipe = run.recipe
        path = run.folder
        # a trained run was stopped during the evaluation
        if run.status not in TRAINED:
            finetune(recipe, folder, listener, source=source, resume=path)
    evaluate_run(path, recipe, listener.on_progress)


def evaluate_run(
    folder: Path, recipe: Recipe, progress: Progress | None = None
) -> None:
    """Evaluate the bundle of a trial's run, without baselines.

    Args:
        folder: the run, with its bundle; receives `evaluation`.
        recipe: names the chips and the device.
        progress: called while chips are read and classified.
    """
    from rsft.evaluation.evaluate import evaluate

    evaluate(
        folder / "bundle",
        Path(recipe.data.root),
        folder / "evaluation",
        baselines=False,
        device=recipe.train.device,
        progress=progress,
    )


def _unfinished_run(folder: Path) -> RunInfo | None:
    """Return the newest run of a trial, if it can be resumed with the same result."""
    import torch

    run = next(reversed(find_runs(folder)), None)
    if not run or not run.recipe:
        return None
    data = read_data_hash(run.metadata)
    present = hash_data(run.recipe.data)
    if run.status in ("failed", "broken") or (data and present and data != present):
        return None
    if run.status in TRAINED or run.metadata.get("device") != "cpu":
        return run
    # with another number of threads of the CPU, the weights would differ
    threads = run.metadata.get("hardware", {}).get("threads")
    return run if threads in (None, torch.get_num_threads()) else None
