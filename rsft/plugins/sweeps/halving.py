"""Stop trials early that fall behind, by asynchronous successive halving.

Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020. The epochs
in the run folders are all that is needed, so a killed sweep goes on where it was.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsft.study.runs import StoppedEarlyError
from rsft.training.listeners import RunListener
from rsft.training.runs.reader import METRICS_FILE, Epoch, read_epochs

REDUCTION = 4
"""One of so many trials goes on."""


@dataclass(frozen=True)
class Halving:
    """After 1, 4, 16, ... times the grace period, only the best quarter goes on.

    Attributes:
        metric: column of metrics.csv; an epoch without it does not count.
        mode: "max" or "min": whether the largest or the smallest value is best.
        grace_period: epochs before a trial may be stopped.
        epochs: epochs of a whole trial.
    """

    metric: str
    mode: str
    grace_period: int
    epochs: int

    def is_behind(
        self, trial: Sequence[Epoch], others: Iterable[Sequence[Epoch]]
    ) -> bool:
        """Return whether a trial stops after its last epoch, given the other trials."""
        rungs = []
        rung = self.grace_period
        while rung < self.epochs:
            is_new = self._value_at(trial[:-1], rung) is None
            if is_new and self._value_at(trial, rung) is not None:
                rungs.append(rung)
            rung *= REDUCTION
        if not rungs:
            return False
        value = self._value_at(trial, rungs[-1])
        values = [self._value_at(other, rungs[-1]) for other in others]
        rivals = [rival for rival in values if rival is not None]
        better = [rival for rival in rivals if value is not None and rival > value]
        return len(better) >= max(1, (len(rivals) + 1) // REDUCTION)

    def _value_at(self, trial: Sequence[Epoch], rung: int) -> float | None:
        """Return the first value after some epochs, larger if it is better."""
        for epoch in trial:
            if epoch["epoch"] + 1 >= rung and self.metric in epoch:
                value = epoch[self.metric]
                return -value if self.mode == "min" else value
        return None


def read_trial_epochs(folder: Path) -> list[Epoch]:
    """Return the finished epochs of the newest run of a trial."""
    files = sorted(folder.glob(f"*/*/{METRICS_FILE}"))
    return read_epochs(files[-1].parent) if files else []


@dataclass
class HalvingListener(RunListener):
    """Stops the run of the trial in a folder."""

    halving: Halving
    folder: Path

    def on_epoch_end(self, row: dict[str, float], scales: Any) -> None:
        others = [path for path in self.folder.parent.iterdir() if path != self.folder]
        epochs = map(read_trial_epochs, others)
        if self.halving.is_behind(read_trial_epochs(self.folder), epochs):
            raise StoppedEarlyError("stopped early by asha")
