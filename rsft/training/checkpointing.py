"""Save checkpoints during training, and stop cleanly at SIGINT or SIGTERM.

Files are written atomically, and only the last two stay.
"""

import logging
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Self

import torch

from rsft.errors import Interrupted, RsftError
from rsft.recipe.schema import TrainSection
from rsft.training.learner import Learner
from rsft.training.parts.base import StateDict
from rsft.training.processes import all_reduce_max, broadcast_object
from rsft.training.recorder import EarlyStopping
from rsft.training.runs.writer import Run
from rsft.utils.atomic_files import atomic_file
from rsft.utils.untrusted.torch_files import check_torch_file
from rsft.utils.write_errors import explain_os_error

CHECKPOINT_FORMAT = 1
"""Version of the content; rsft does not read files of another version."""

MAX_CHECKPOINTS = 2
"""Number of checkpoint files that stay."""

_log = logging.getLogger(__name__)


class TrainingPosition(NamedTuple):
    """A moment between two steps.

    Attributes:
        epoch: the current epoch, from 0; the number of epochs after the end of
            training.
        batch: finished batches of this epoch.
    """

    epoch: int = 0
    batch: int = 0

    def __str__(self) -> str:
        if self.batch:
            return f"epoch {self.epoch + 1}, batch {self.batch}"
        return f"the start of epoch {self.epoch + 1}"


class Checkpoint(NamedTuple):
    """A saved state of training.

    Attributes:
        position: the position from which training continues.
        state: the state, from `capture_state`.
    """

    position: TrainingPosition
    state: StateDict


def save_checkpoint(
    folder: Path, position: TrainingPosition, state: Mapping[str, Any]
) -> Path:
    """Write a checkpoint, and delete all but the last two.

    Args:
        folder: the folder of the checkpoints.
        position: the position from which training continues.
        state: tensors, numbers and strings in nested containers.

    Returns:
        The path of the file.

    Raises:
        RsftError: the file cannot be written, for example because the disk is full;
            earlier checkpoints stay.
    """
    path = folder / f"{position.epoch:05d}-{position.batch:07d}.ckpt"
    try:
        with atomic_file(path) as temporary:
            torch.save(
                {
                    "format": CHECKPOINT_FORMAT,
                    "position": tuple(position),
                    "state": dict(state),
                },
                temporary,
            )
    except OSError as error:
        raise explain_os_error(
            error, path, "resume; the previous checkpoint is complete"
        ) from error
    for old_path in sorted(folder.glob("*.ckpt"))[:-MAX_CHECKPOINTS]:
        old_path.unlink(missing_ok=True)
    return path


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest readable checkpoint.

    Files are read with `weights_only`, so that no code in them runs.

    Args:
        folder: the folder of the checkpoints.

    Returns:
        The checkpoint; None if the folder has no files.

    Raises:
        RsftError: none of the files can be read.
    """
    files = sorted(folder.glob("*.ckpt"))
    for path in reversed(files):
        try:
            check_torch_file(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
            position = TrainingPosition(*content["position"])
            if content["format"] != CHECKPOINT_FORMAT:
                raise ValueError(f"this version of rsft reads {CHECKPOINT_FORMAT=}")
            return Checkpoint(position, content["state"])
        except Exception as error:  # the type depends on where the file is damaged
            fault = f"{type(error).__name__}: {error}".splitlines()[0]
            _log.warning("%s cannot be read: %s", path, fault)
    if files:
        raise RsftError(
            "no checkpoint can be read",
            folder,
            "start the run again from its recipe.yaml",
        )
    return None


class StopSignals:
    """Handler of SIGINT and SIGTERM: training saves its state before it ends.

    A second SIGINT ends the process at once. Outside of the main thread Python delivers
    no signals, so the handler receives none.

    Attributes:
        received: number of the signal; 0 before one arrives.
    """

    def __init__(self) -> None:
        self.received = 0
        self._handlers = {
            number: signal.getsignal(number)
            for number in (signal.SIGINT, signal.SIGTERM)
        }

    def __enter__(self) -> Self:
        for number in self._handlers:
            with suppress(ValueError):
                signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            with suppress(ValueError):
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


class Checkpointer:
    """Saves the state of training at intervals, after every epoch, and at a signal.

    Args:
        run: the run that receives the checkpoints.
        train: the section `train` of the recipe, which has the intervals.
        learner: the classifier in training.
        early_stopping: counts the validations.
        signals: the signals that stop the process.
    """

    def __init__(
        self,
        run: Run,
        train: TrainSection,
        learner: Learner,
        early_stopping: EarlyStopping,
        signals: StopSignals,
    ) -> None:
        self.run = run
        self.train = train
        self.learner = learner
        self.early_stopping = early_stopping
        self.signals = signals
        self._position = TrainingPosition()
        self._last_saved_at = time.monotonic()
        self._steps_since_save = 0

    def restore(self, checkpoint: Checkpoint | None) -> TrainingPosition:
        """Restore a checkpoint; all processes restore the checkpoint of rank zero.

        Args:
            checkpoint: the checkpoint of this process; None starts at the first step.

        Returns:
            The position from which training continues.
        """
        # all processes start from the same weights
        if self.learner.batches.shard[1] > 1:
            checkpoint = broadcast_object(
                checkpoint or Checkpoint(TrainingPosition(), self._state())
            )
        if checkpoint:
            self._position = checkpoint.position
            self.learner.load_state_dict(checkpoint.state)
            self.early_stopping.load_state_dict(checkpoint.state["early_stopping"])
        self._last_saved_at = time.monotonic()
        return self._position

    def after_step(self, position: TrainingPosition) -> None:
        """Save a checkpoint if one is due, or stop.

        Raises:
            Interrupted: a process received a signal; a checkpoint is saved.
        """
        self._position = position
        self._steps_since_save += (
            self.learner.loops.batches_seen % self.train.accumulate_grad_batches == 0
        )
        self.stop_if_signaled()
        steps = self.train.checkpoint_steps
        minutes = self.train.checkpoint_minutes
        is_due = steps is not None and self._steps_since_save >= steps
        if is_due or (
            minutes is not None
            and time.monotonic() - self._last_saved_at >= 60 * minutes
        ):
            self._save()

    def after_epoch(self, position: TrainingPosition) -> None:
        """Save a checkpoint for the start of the next epoch.

        Raises:
            Interrupted: a process received a signal; a checkpoint is saved.
        """
        self._position = position
        self.stop_if_signaled()
        self._save()

    def stop_if_signaled(self) -> None:
        """Save and stop in all processes if one of them received a signal.

        Raises:
            Interrupted: a process received a signal; a checkpoint is saved.
        """
        received = all_reduce_max(self.signals.received, self.learner.device)
        if received:
            self._save()
            raise Interrupted(received, f"saved at {self._position}")

    def _save(self) -> None:
        if self.run.is_writer:
            save_checkpoint(self.run.checkpoints_dir, self._position, self._state())
            self.run.update(position=tuple(self._position), seconds=self.run.seconds)
        self._last_saved_at = time.monotonic()
        self._steps_since_save = 0

    def _state(self) -> StateDict:
        return self.learner.state_dict() | {
            "early_stopping": self.early_stopping.state_dict()
        }
