"""Record a run while it trains: write tables to the run folder, and call listeners."""

from __future__ import annotations

import math
import sys
import time
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
class StepReport:
    """A finished step, and the speed of its epoch so far.

    Attributes:
        epoch: number of the epoch, from 0.
        step: number of the step in its epoch, from 1.
        steps: steps of an epoch.
        done: finished steps of the run.
        total: steps of the run.
        loss: the loss of the inner loop.
        images_per_s: images per second of the inner loop.
        data_s: mean seconds per step outside of both loops, mostly spent waiting for data.
        inner_s: mean seconds per step in the inner loop. The time of a joint pass is divided between the loops by rows.
        outer_s: mean seconds per step in the outer loop.
        memory_mb: peak resident memory of this process.
        gpu_mb: peak memory allocated on its GPU; NaN without one.
        left_s: estimated seconds to the end of the run, including validations.
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


class RunListener:
    """Base class of listeners to a training run. Subclasses override the methods that they need."""

    def on_progress(self, done: int, total: int, item: str) -> None:
        """Handle progress before or after training, such as the number of chips read.

        Args:
            done: amount of finished work.
            total: amount of all work.
            item: name of the work.
        """

    def on_start(self, run: Run, metadata: dict[str, Any]) -> None:
        """Handle the start of training.

        Args:
            run: the run that starts.
            metadata: the content of run.json.
        """

    def on_step(self, step: StepReport) -> None:
        """Handle a finished step.

        Args:
            step: the step, with its pace.
        """

    def on_epoch_end(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """Handle a finished epoch.

        Args:
            row: columns of metrics.csv.
            scales: learned scales by site; empty without a modulator.
        """

    def on_end(self, failed: bool) -> None:
        """Handle the end of training.

        Args:
            failed: whether an error or a signal ended it.
        """


class Recorder(Callback):
    """Callback that writes the tables of a run after each epoch, and calls listeners.

    Args:
        run: the run that receives the tables.
        *listeners: the listeners to call; None is ignored.
    """

    state_key = "Recorder"  # the key in checkpoints of version 0.1

    def __init__(self, run: Run, *listeners: RunListener | None) -> None:
        self.run = run
        self.listeners = [listener for listener in listeners if listener is not None]
        self._epoch_images = self._epoch_steps = 0  # of this process
        self._session_steps = 0  # of this process, since the start or resume
        self._epoch_began = self._session_began = 0.0
        self._pace_before_validation: dict[str, float] | None = None

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Start the clock of the run.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
        """
        self._session_began = time.monotonic()
        for listener in self.listeners:
            listener.on_start(self.run, self.run.metadata)

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        """Start the clock of the epoch.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
        """
        self._epoch_began, self._epoch_images, self._epoch_steps = time.monotonic(), 0, 0
        self._pace_before_validation = None
        module.timer.reset()
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1  # the last epoch always has a validation

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Report the step to the listeners.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
            outputs: the output of the step.
            batch: the batch of the step; None if the step was done before the resume.
            batch_idx: number of the batch in its epoch.
        """
        if batch is None:
            return
        self._epoch_images += len(batch[1]) * trainer.world_size
        self._epoch_steps, self._session_steps = self._epoch_steps + 1, self._session_steps + 1
        if self.listeners:
            step = self._make_report(trainer, module, batch_idx + 1, outputs)
            for listener in self.listeners:
                listener.on_step(step)

    def on_validation_start(self, trainer: Trainer, module: Any) -> None:
        """Stop the clock of the epoch before the validation.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
        """
        self._pace_before_validation = self._pace(module)

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Write the row of the epoch and the learned scales.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
        """
        row = module.epoch_row() | (self._pace_before_validation or self._pace(module)) | peak_memory()
        modulator = module.classifier.adapted.modulator
        scales = modulator.scales() if modulator is not None else {}
        self.run.add_epoch(row, scales)
        for listener in self.listeners:
            listener.on_epoch_end(row, scales)

    def on_fit_end(self, trainer: Trainer, module: Any) -> None:
        """Report the end.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
        """
        for listener in self.listeners:
            listener.on_end(failed=False)

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        """Report an end by an error or a signal.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
            exception: the cause.
        """
        for listener in self.listeners:
            listener.on_end(failed=True)

    def _pace(self, module: Any) -> dict[str, float]:
        """Return images per second, and the seconds of the epoch so far, in total and by phase."""
        seconds = time.monotonic() - self._epoch_began
        inner, outer = (module.timer.seconds(phase) for phase in ("inner", "outer"))
        return {
            "seconds": seconds,
            "images_per_s": self._epoch_images / seconds if seconds else math.nan,
            "data_s": max(0.0, seconds - inner - outer),
            "inner_s": inner,
            "outer_s": outer,
        }

    def _make_report(self, trainer: Trainer, module: Any, step: int, outputs: Any) -> StepReport:
        steps, pace = int(trainer.num_training_batches), self._pace(module)
        done, total = trainer.current_epoch * steps + step, (trainer.max_epochs or 1) * steps
        return StepReport(
            epoch=trainer.current_epoch,
            step=step,
            steps=steps,
            done=done,
            total=total,
            loss=float(outputs["loss"] if isinstance(outputs, dict) else outputs),
            images_per_s=pace["images_per_s"],
            **{phase: pace[phase] / self._epoch_steps for phase in ("data_s", "inner_s", "outer_s")},
            **peak_memory(),
            left_s=(time.monotonic() - self._session_began) / self._session_steps * (total - done),
        )


def peak_memory() -> dict[str, float]:
    """Return the peak memory of this process in MB.

    Returns:
        "memory_mb", resident; "gpu_mb", allocated on its GPU, NaN without one.
    """
    if sys.platform == "win32":
        resident = psutil.Process().memory_info().peak_wset / 1e6
    else:
        bytes_per_unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit / 1e6
    allocated = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0
    return {"memory_mb": resident, "gpu_mb": allocated or math.nan}
