"""The process of a trial: what it gets, what it prints, and its lock."""

import faulthandler
import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rsft.errors import Interrupted
from rsft.plugins.sweeps.halving import Halving, HalvingListener
from rsft.study.outcomes import TrialOutcome
from rsft.study.runs import run_trial
from rsft.study.trials import KeyValues
from rsft.training.listeners import RunListener

ERRORS = "errors.txt"
"""What the process of a trial prints."""


LOCK = "lock"


MODULES = ("rsft.training.finetune", "rsft.evaluation.evaluate")
"""Modules that every process of a trial imports."""


@dataclass(frozen=True)
class TrialSettings:
    """What a process needs to know about the study of its trial.

    Attributes:
        metric: the trial fails if this metric is not a finite number at the end.
        threads: number of CPU threads.
        halving: stops a trial that falls behind; None trains all trials to the end.
    """

    metric: str
    threads: int = 1
    halving: Halving | None = None


def train_trial(folder: Path, keys: KeyValues, settings: TrialSettings) -> TrialOutcome:
    """Run a trial in a process of its own, and save its outcome in its folder.

    The folder stays locked until the process ends; a second process for it waits.

    Args:
        folder: folder of the trial, with its recipe.
        keys: recipe keys that the study set.
        settings: settings of the study.

    Raises:
        SystemExit: SIGINT or SIGTERM; the run has saved its state.
    """
    import torch

    errors = (folder / ERRORS).open("w", encoding="utf-8")
    for stream in (1, 2):
        os.dup2(errors.fileno(), stream)
    faulthandler.enable(errors)
    torch.set_num_threads(settings.threads)
    listener = RunListener()
    if settings.halving is not None:
        listener = HalvingListener(settings.halving, folder)
    with FileLock(folder / LOCK):
        try:
            return run_trial(folder, keys, settings.metric, listener)
        except Interrupted as error:
            raise SystemExit(error.exit_code) from error


def read_last_line(path: Path) -> str:
    """Return the last line of what a process printed; "" without any."""
    if not path.is_file():
        return ""
    lines = path.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
