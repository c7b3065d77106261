"""Save checkpoints during training, and stop cleanly at SIGINT or SIGTERM."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities import move_data_to_device

from rsft.errors import Interrupted, RsftError
from rsft.recipe.schema import TrainSection
from rsft.training.runs.checkpoints import Checkpoint, TrainingPosition, save_checkpoint
from rsft.training.runs.writer import Run


class StopSignals:
    """Handler of SIGINT and SIGTERM that lets training save its state before it ends.

    A second SIGINT ends the process at once. Outside of the main thread Python delivers no signals, so the handler
    receives none.

    Attributes:
        received: number of the signal; 0 before one arrives.
    """

    def __init__(self) -> None:
        self.received = 0
        self._handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def install(self) -> None:
        """Replace the handlers of both signals."""
        for number in self._handlers:
            with suppress(ValueError):
                signal.signal(number, self._receive)

    def uninstall(self) -> None:
        """Restore the previous handlers."""
        for number, handler in self._handlers.items():
            with suppress(ValueError):
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


class CheckpointCallback(Callback):
    """Callback that saves the full state of training at intervals, after every epoch, and when a signal arrives.

    It must be the last callback, because a checkpoint contains the state of the others. Lightning's own resume is not
    used: it supports neither the two loops nor an epoch with regenerated batches, and its rules change between
    versions. Resuming sets Lightning's epoch counter and `ChipDataModule.resume_point`. Every random number is a
    function of (seed, epoch, batch), so checkpoints need no generator state.

    Args:
        run: the run that receives the checkpoints.
        train: the section `train` of the recipe, which has the intervals.
        checkpoint: the state from which training continues; None starts at the first step.
        signals: the signals that stop the process.
    """

    state_key = "Survival"  # the key in checkpoints of version 0.1

    def __init__(self, run: Run, train: TrainSection, checkpoint: Checkpoint | None, signals: StopSignals) -> None:
        self.run, self.train, self.checkpoint, self.signals = run, train, checkpoint, signals
        self.position = checkpoint.position if checkpoint else TrainingPosition()
        self._last_saved_at, self._steps_since_save = time.monotonic(), 0

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        """Restore the checkpoint; all processes restore the checkpoint of rank zero.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
        """
        checkpoint = self.checkpoint
        if trainer.world_size > 1:
            initial = Checkpoint(TrainingPosition(), capture_state(trainer, module))
            checkpoint = trainer.strategy.broadcast(checkpoint or initial)
        if checkpoint is not None:
            self.position = checkpoint.position
            restore_state(trainer, module, checkpoint)
            module.data_module.resume_point = tuple(checkpoint.position)
            progress: Any = trainer.fit_loop.epoch_progress.current
            epoch = checkpoint.position.epoch
            progress.ready = progress.started = progress.processed = progress.completed = epoch

    def on_train_start(self, trainer: Trainer, module: Any) -> None:
        """Install the signal handlers, after Lightning has installed its own.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
        """
        self.signals.install()
        self._last_saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save a checkpoint if one is due, or stop.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
            outputs: the output of the step.
            batch: the batch of the step; None if the step was done before the resume.
            batch_idx: number of the batch in its epoch.
        """
        if batch is None:
            return
        self.position = TrainingPosition(trainer.current_epoch, batch_idx + 1)
        self._steps_since_save += module.bilevel.batches_seen % self.train.accumulate_grad_batches == 0
        self._stop_if_signaled(trainer, module)
        if self._is_due():
            self._save(trainer, module)

    def on_validation_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        """Stop within a validation, which a resumed run repeats. Several processes first finish the validation.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
            *_: other arguments of Lightning, ignored.
        """
        if trainer.world_size == 1:
            self._stop_if_signaled(trainer, module)

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Save a checkpoint for the start of the next epoch; the row of this epoch is already written.

        Args:
            trainer: the trainer of the run.
            module: the `FineTuningModule` of the run.
        """
        self.position = TrainingPosition(trainer.current_epoch + 1)
        self._stop_if_signaled(trainer, module)
        self._save(trainer, module)

    def _is_due(self) -> bool:
        steps, minutes = self.train.checkpoint_steps, self.train.checkpoint_minutes
        by_steps = steps is not None and self._steps_since_save >= steps
        return by_steps or (minutes is not None and time.monotonic() - self._last_saved_at >= 60 * minutes)

    def _stop_if_signaled(self, trainer: Trainer, module: Any) -> None:
        """Save and raise `Interrupted` in all processes if one of them received a signal."""
        if trainer.strategy.reduce_boolean_decision(bool(self.signals.received), all=False):
            self._save(trainer, module)
            raise Interrupted(self.signals.received or signal.SIGTERM, f"saved at {self.position}")

    def _save(self, trainer: Trainer, module: Any) -> None:
        if self.run.is_writer:
            save_checkpoint(self.run.checkpoints_dir, self.position, capture_state(trainer, module))
            self.run.update(position=tuple(self.position), seconds=self.run.seconds)
        self._last_saved_at, self._steps_since_save = time.monotonic(), 0


def capture_state(trainer: Trainer, module: Any) -> dict[str, Any]:
    """Return all state that changes during training, between two steps.

    Args:
        trainer: the trainer, with its optimizers and callbacks.
        module: a `FineTuningModule`.

    Returns:
        The state of a checkpoint, with tensors on the CPU.
    """
    loops = module.bilevel
    step_is_unfinished = loops.batches_seen % loops.accumulate_grad_batches != 0
    state = {
        "learned": module.classifier.learned_state(),
        "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "scalers": [scaler.state_dict() for scaler in module.scalers],
        "callbacks": {callback.state_key: callback.state_dict() for callback in _callbacks(trainer)},
        "gradients": [parameter.grad for parameter in loops.theta] if step_is_unfinished else None,
        "calls": loops.batches_seen,
        "skipped": loops.skipped_steps,
        **module.counters(),
    }
    moved: dict[str, Any] = move_data_to_device(state, torch.device("cpu"))
    return moved


def restore_state(trainer: Trainer, module: Any, checkpoint: Checkpoint) -> None:
    """Restore the state of a checkpoint.

    Args:
        trainer: the trainer, with its optimizers and callbacks.
        module: a `FineTuningModule`.
        checkpoint: a checkpoint with a state from `capture_state`.

    Raises:
        RsftError: the checkpoint lacks the state of a callback.
    """
    loops, state = module.bilevel, checkpoint.state
    module.classifier.load_learned_state(state["learned"])
    for optimizer, optimizer_state in zip(trainer.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(optimizer_state)
    for scaler, scaler_state in zip(module.scalers, state["scalers"], strict=True):
        scaler.load_state_dict(scaler_state)
    _restore_callbacks(_callbacks(trainer), checkpoint)
    for parameter, gradient in zip(loops.theta, state["gradients"] or (), strict=False):
        parameter.grad = None if gradient is None else gradient.to(parameter.device)
    loops.batches_seen, loops.skipped_steps = state["calls"], state["skipped"]
    module.load_counters(state)


def _restore_callbacks(callbacks: list[Callback], checkpoint: Checkpoint) -> None:
    states = checkpoint.state["callbacks"]
    for callback in callbacks:
        key = callback.state_key
        if key in states:
            callback.load_state_dict(states[key])
        elif callback.state_dict():  # without its state the resumed run would differ from an uninterrupted one
            message = f"the checkpoint has no state for the callback {key}"
            hint = "resume with the version of rsft that began the run, or start the run again from its recipe.yaml"
            raise RsftError(message, checkpoint.path or "the checkpoint of rank zero", hint)


def _callbacks(trainer: Any) -> list[Callback]:
    """Return the callbacks of a trainer; its type does not declare the attribute."""
    return list(trainer.callbacks)
