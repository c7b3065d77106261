"""What a run tells while it goes: its tables, and whoever listens."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning import Callback, Trainer

from rsft.peft import Site
from rsft.training.runs.writer import Run

if sys.platform == "win32":
    import psutil
else:
    import resource


@dataclass(frozen=True)
class Step:
    """A step that is done, and the pace of its epoch up to it.

    Attributes:
        epoch, step, steps: `step` of `steps` in `epoch`; epochs count from 0, steps from 1.
        done, total: the same over the run.
        images_per_s: of the inner loop.
        data_s, inner_s, outer_s: mean seconds of a step: waiting for data and all else, theta's, gamma's. A joint pass
            is shared between the loops by rows.
        memory_mb, gpu_mb: the most that was resident in this process, and allocated on its GPU (NaN without one).
        left_s: seconds to the end of the run, validations included.
    """

    epoch: int
    step: int
    steps: int
    done: int
    total: int
    loss: float
    images_per_s: float
    data_s: float
    inner_s: float
    outer_s: float
    memory_mb: float
    gpu_mb: float
    left_s: float


class Listener:
    """Whoever wants to know of a run while it goes; hears what it overrides."""

    def reading(self, done: int, total: int, what: str) -> None:
        """Chips are being read."""

    def started(self, run: Run, facts: dict[str, Any]) -> None:
        """Training begins; `facts` are those of run.json."""

    def stepped(self, step: Step) -> None:
        """A step is done."""

    def epoch_ended(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """A row of metrics.csv and the modulator's values, empty without one."""

    def ended(self, failed: bool) -> None:
        """Training is over."""


class Recorder(Callback):
    """Writes the run's tables after each epoch, and tells the listeners."""

    def __init__(self, run: Run, *listeners: Listener | None) -> None:
        self.run = run
        self.listeners: Sequence[Listener] = [listener for listener in listeners if listener is not None]
        self.images = self.steps = 0  # of the epoch, in this process
        self.done = 0  # steps of the run, in this process
        self.began = self.run_began = 0.0
        self.pace: dict[str, float] | None = None

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Start the clock of the run."""
        self.run_began = time.monotonic()
        for listener in self.listeners:
            listener.started(self.run, self.run.facts)

    def on_train_epoch_start(self, trainer: Trainer, task: Any) -> None:
        """Start the clock of the epoch."""
        self.began, self.images, self.steps, self.pace = time.monotonic(), 0, 0, None
        task.watch.reset()
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1  # whatever evaluate.every is, the end is known

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Tell of the step."""
        if batch is None:  # trained on before a resume
            return
        self.images += len(batch[1]) * trainer.world_size
        self.steps, self.done = self.steps + 1, self.done + 1
        if self.listeners:
            step = self._step(trainer, task, batch_idx + 1, outputs)
            for listener in self.listeners:
                listener.stepped(step)

    def on_validation_start(self, trainer: Trainer, task: Any) -> None:
        """Stop the clock before validation takes its time."""
        self.pace = self._pace(task)

    def on_train_epoch_end(self, trainer: Trainer, task: Any) -> None:
        """Write the row and the modulator's values."""
        row = task.epoch_row() | (self.pace or self._pace(task)) | memory()
        modulator = task.classifier.adapted.modulator
        scales = modulator.values() if modulator is not None else {}
        self.run.add_epoch(row, scales)
        for listener in self.listeners:
            listener.epoch_ended(row, scales)

    def on_fit_end(self, trainer: Trainer, task: Any) -> None:
        """Tell of the end."""
        for listener in self.listeners:
            listener.ended(failed=False)

    def on_exception(self, trainer: Trainer, task: Any, exception: BaseException) -> None:
        """Tell of an end before its time."""
        for listener in self.listeners:
            listener.ended(failed=True)

    def _pace(self, task: Any) -> dict[str, float]:
        """Seconds since the epoch began and what they went into, and images/s."""
        seconds = time.monotonic() - self.began
        inner, outer = (task.watch.seconds(phase) for phase in ("inner", "outer"))
        return {
            "seconds": seconds,
            "images_per_s": self.images / seconds if seconds else math.nan,
            "data_s": max(0.0, seconds - inner - outer),
            "inner_s": inner,
            "outer_s": outer,
        }

    def _step(self, trainer: Trainer, task: Any, step: int, outputs: Any) -> Step:
        steps, pace = int(trainer.num_training_batches), self._pace(task)
        done, total = trainer.current_epoch * steps + step, (trainer.max_epochs or 1) * steps
        return Step(
            epoch=trainer.current_epoch,
            step=step,
            steps=steps,
            done=done,
            total=total,
            loss=float(outputs["loss"] if isinstance(outputs, dict) else outputs),
            images_per_s=pace["images_per_s"],
            **{phase: pace[phase] / self.steps for phase in ("data_s", "inner_s", "outer_s")},
            **memory(),
            left_s=(time.monotonic() - self.run_began) / self.done * (total - done),
        )


def memory() -> dict[str, float]:
    """The most that was resident in this process, and allocated on its GPU (NaN without one), in MB."""
    if sys.platform == "win32":
        resident = psutil.Process().memory_info().peak_wset / 1e6
    else:
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    allocated = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0
    return {"memory_mb": resident, "gpu_mb": allocated or math.nan}
