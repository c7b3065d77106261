"""What a run tells while it goes: its tables, its checkpoint, and whoever listens."""

from __future__ import annotations

import math
import time
from typing import Any, Protocol

from lightning import Callback, Trainer

from rsft.files import replacing
from rsft.finetune.runs import Run
from rsft.peft import Site


class Listener(Protocol):
    """Whoever wants to show a run while it goes."""

    def reading(self, done: int, total: int, what: str) -> None:
        """Chips are being read."""

    def started(self, run: Run, facts: dict[str, Any]) -> None:
        """Training begins; `facts` are those of run.json."""

    def stepped(self, epoch: int, step: int, steps: int, loss: float, images_per_s: float) -> None:
        """`step` of `steps` in `epoch` is done."""

    def epoch_ended(self, row: dict[str, float], scales: dict[Site, float]) -> None:
        """A row of metrics.csv and the modulator's values, empty without one."""


class Recorder(Callback):
    """Writes the run's tables and its checkpoint after each epoch, and tells the listener."""

    def __init__(self, run: Run, listener: Listener | None) -> None:
        self.run, self.listener = run, listener
        self.began, self.images = 0.0, 0
        self.pace: tuple[float, float] | None = None

    def on_train_epoch_start(self, trainer: Trainer, task: Any) -> None:
        """Start the clock."""
        self.began, self.images, self.pace = time.monotonic(), 0, None
        if trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1  # whatever evaluate.every is, the end is known

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Tell of the step."""
        self.images += len(batch[1])
        if self.listener is not None:
            loss = float(outputs["loss"]) if isinstance(outputs, dict) else float(outputs)
            steps = int(trainer.num_training_batches)
            self.listener.stepped(trainer.current_epoch, batch_idx + 1, steps, loss, self._speed())

    def on_validation_start(self, trainer: Trainer, task: Any) -> None:
        """Stop the clock."""
        self.pace = self._speed(), time.monotonic() - self.began  # before validation takes its time

    def on_train_epoch_end(self, trainer: Trainer, task: Any) -> None:
        """Write the row, the modulator's values and the checkpoint."""
        speed, seconds = self.pace or (self._speed(), time.monotonic() - self.began)
        row = task.epoch_row() | {"seconds": seconds, "images_per_s": speed}
        modulator = task.classifier.adapted.modulator
        scales = modulator.values() if modulator is not None else {}
        self.run.add_epoch(row, scales)
        with replacing(self.run.checkpoint) as temporary:
            trainer.save_checkpoint(temporary)
        if self.listener is not None:
            self.listener.epoch_ended(row, scales)

    def _speed(self) -> float:
        seconds = time.monotonic() - self.began
        return self.images / seconds if seconds else math.nan
