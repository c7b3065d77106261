"""A run that goes on after whatever ended it: checkpoints while it trains, and what is done when it is told to stop."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities import move_data_to_device

from rsft.errors import Interrupted
from rsft.recipe.schema import Train
from rsft.training.runs.checkpoints import Checkpoint, Position, save_checkpoint
from rsft.training.runs.writer import Run


class Signals:
    """Remembers that the process was told to stop, by SIGINT or SIGTERM; a second SIGINT stops it at once.

    In a thread, where Python has no signals, it hears none.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def listen(self) -> None:
        """From now on."""
        for number in self._before:
            with suppress(ValueError):
                signal.signal(number, self._note)

    def restore(self) -> None:
        """Give signals back to whoever had them when this was made."""
        for number, before in self._before.items():
            with suppress(ValueError):
                signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.caught = number


class Survival(Callback):
    """Saves all that moves: when it is due, after every epoch, and when the process is told to stop.

    It comes behind every callback whose state or tables belong to the same moment. Lightning's own resume is not used:
    it knows neither the two loops nor an epoch whose batches are made anew, and its rules change with its versions.
    Ours needs the counter of its epochs and `ChipData.done`. What is drawn at random is a function of (seed, epoch,
    batch), so no state of a generator is kept.

    Args:
        run: whose checkpoints they are.
        train: says how often.
        start: where to go on; None begins.
        signals: who hears that the process is told to stop.
    """

    def __init__(self, run: Run, train: Train, start: Checkpoint | None, signals: Signals) -> None:
        self.run, self.train, self.start, self.signals = run, train, start, signals
        self.position = start.position if start else Position()
        self.saved, self.steps = time.monotonic(), 0

    def on_fit_start(self, trainer: Trainer, task: Any) -> None:
        """Take the state back; several processes all take that of the first."""
        start = self.start
        if trainer.world_size > 1:
            start = trainer.strategy.broadcast(start or Checkpoint(Position(), snapshot(trainer, task)))
        if start is not None:
            self.position = start.position
            restore(trainer, task, start.state)
            task.data.done = tuple(start.position)
            progress: Any = trainer.fit_loop.epoch_progress.current
            progress.ready = progress.started = progress.processed = progress.completed = start.position.epoch

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Hear signals: from here on there is something to lose, and Lightning has taken its own handlers."""
        self.signals.listen()
        self.saved = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save where it is due, or end."""
        if batch is None:  # trained on before
            return
        self.position = Position(trainer.current_epoch, batch_idx + 1)
        self.steps += task.loops.calls % self.train.accumulate == 0
        if not self._ends(trainer, task) and self._is_due():
            self._save(trainer, task)

    def on_validation_batch_end(self, trainer: Trainer, task: Any, *_: Any) -> None:
        """A validation is not waited for: it begins again after a resume. Several processes end it together."""
        if trainer.world_size == 1:
            self._ends(trainer, task)

    def on_train_epoch_end(self, trainer: Trainer, task: Any) -> None:
        """The epoch's row is written, so the next one begins."""
        self.position = Position(trainer.current_epoch + 1)
        if not self._ends(trainer, task):
            self._save(trainer, task)

    def _is_due(self) -> bool:
        every, minutes = self.train.checkpoint_steps, self.train.checkpoint_minutes
        by_steps = every is not None and self.steps >= every
        return by_steps or (minutes is not None and time.monotonic() - self.saved >= 60 * minutes)

    def _ends(self, trainer: Trainer, task: Any) -> bool:
        """False; where one of the processes was told to stop, all of them save and end."""
        if trainer.strategy.reduce_boolean_decision(bool(self.signals.caught), all=False):
            self._save(trainer, task)
            raise Interrupted(self.signals.caught or signal.SIGTERM, f"saved at {self.position}")
        return False

    def _save(self, trainer: Trainer, task: Any) -> None:
        if self.run.writing:
            save_checkpoint(self.run.checkpoints, self.position, snapshot(trainer, task))
            self.run.update(position=tuple(self.position), seconds=self.run.seconds)
        self.saved, self.steps = time.monotonic(), 0


def snapshot(trainer: Trainer, task: Any) -> dict[str, Any]:
    """All that moves, between two steps, on the CPU."""
    loops = task.loops
    halfway = loops.calls % loops.accumulate != 0
    state = {
        "learned": task.classifier.learned_state(),
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "scalers": [scaler.state_dict() for scaler in task.scalers],
        "callbacks": {callback.state_key: callback.state_dict() for callback in _callbacks(trainer)},
        "gradients": [parameter.grad for parameter in loops.theta] if halfway else None,
        "calls": loops.calls,
        "skipped": loops.skipped,
        **task.tallies(),
    }
    moved: dict[str, Any] = move_data_to_device(state, torch.device("cpu"))
    return moved


def restore(trainer: Trainer, task: Any, state: dict[str, Any]) -> None:
    """Take back what `snapshot` gave."""
    loops = task.loops
    task.classifier.load_learned_state(state["learned"])
    for optimizer, own in zip(trainer.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(own)
    for scaler, own in zip(task.scalers, state["scalers"], strict=True):
        scaler.load_state_dict(own)
    for callback in _callbacks(trainer):
        if own := state["callbacks"].get(callback.state_key):
            callback.load_state_dict(own)
    for parameter, gradient in zip(loops.theta, state["gradients"] or (), strict=False):
        parameter.grad = None if gradient is None else gradient.to(parameter.device)
    loops.calls, loops.skipped = state["calls"], state["skipped"]
    task.take_tallies(state)


def _callbacks(trainer: Any) -> list[Callback]:
    """Those of a trainer, which gets the attribute at run time."""
    return list(trainer.callbacks)
