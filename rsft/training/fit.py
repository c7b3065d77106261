"""The training loop, epoch by epoch: steps, tables, listeners, validation, early stopping, checkpoints and signals."""

import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from rsft.data.loading.batches import Batch
from rsft.errors import Interrupted, RsftError
from rsft.metrics import summarize_accuracy
from rsft.peft import Site
from rsft.recipe.schema import EvaluateSection
from rsft.training.learner import Learner
from rsft.training.meta.bilevel import BiLevelLoop, NonFiniteLossError, StepTimer
from rsft.training.processes import Processes, all_gather_object, all_reduce_max, broadcast_object
from rsft.training.runs.writer import Run
from rsft.training.trackers import RunListener, StepReport
from rsft.types import GROUPS
from rsft.utils.atomic_files import atomic_file
from rsft.utils.untrusted.torch_files import check_torch_file
from rsft.utils.write_errors import explain_os_error

if sys.platform == "win32":
    import psutil
else:
    import resource


class Recorder:
    """Writes the tables of a run after each epoch, and calls listeners, from the start to the end of a `with` block.

    Args:
        run: the run that receives the tables.
        timer: measures inner and outer steps.
        epochs: number of epochs of the run.
        listeners: the listeners to call.
    """

    def __init__(self, run: Run, timer: StepTimer, epochs: int, listeners: Sequence[RunListener] = ()) -> None:
        self.run, self.timer, self.epochs, self.listeners = run, timer, epochs, listeners
        self._epoch = self._steps = 0  # number of the epoch, and its steps
        self._epoch_images = self._epoch_steps = 0  # of this session
        self._session_steps = 0  # since the start or resume
        self._epoch_began = self._session_began = time.monotonic()

    def __enter__(self) -> Self:
        self._session_began = time.monotonic()
        for listener in self.listeners:
            listener.on_start(self.run, self.run.metadata)
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        for listener in self.listeners:
            listener.on_end(failed=error is not None)

    def start_epoch(self, epoch: int, steps: int) -> None:
        """Start the clock of an epoch with a number of steps."""
        self._epoch, self._steps = epoch, steps
        self._epoch_began, self._epoch_images, self._epoch_steps = time.monotonic(), 0, 0
        self.timer.reset()

    def add_step(self, index: int, loss: Tensor, images: int) -> None:
        """Report a step to the listeners.

        Args:
            index: number of the step in its epoch from 0.
            loss: the loss of the inner loop, a scalar.
            images: images of the step, over all processes.
        """
        self._epoch_images += images
        self._epoch_steps, self._session_steps = self._epoch_steps + 1, self._session_steps + 1
        if self.listeners:
            pace, done, total = self.pace(), self._epoch * self._steps + index + 1, self.epochs * self._steps
            step = StepReport(
                epoch=self._epoch,
                step=index + 1,
                steps=self._steps,
                done=done,
                total=total,
                loss=float(loss),
                images_per_s=pace["images_per_s"],
                **{phase: pace[phase] / self._epoch_steps for phase in ("data_s", "inner_s", "outer_s")},
                **peak_memory(),
                left_s=(time.monotonic() - self._session_began) / self._session_steps * (total - done),
            )
            for listener in self.listeners:
                listener.on_step(step)

    def end_epoch(self, measures: dict[str, float], scales: dict[Site, float]) -> None:
        """Write the row of the epoch, whose memory is added here, and the learned scales, if there are any."""
        row = measures | peak_memory()
        self.run.add_epoch(row, scales)
        for listener in self.listeners:
            listener.on_epoch_end(row, scales)

    def pace(self) -> dict[str, float]:
        """Return images per second, and the seconds of the epoch so far, in total and by phase."""
        seconds = time.monotonic() - self._epoch_began
        inner, outer = (self.timer.seconds(phase) for phase in ("inner", "outer"))
        return {
            "seconds": seconds,
            "images_per_s": self._epoch_images / seconds if seconds else math.nan,
            "data_s": max(0.0, seconds - inner - outer),
            "inner_s": inner,
            "outer_s": outer,
        }


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


class EarlyStopping:
    """Stops training after `patience` validations without a better macro accuracy; None never stops.

    Improvements of up to `min_delta`, as accuracy 0-1, do not count.
    """

    def __init__(self, patience: int | None, min_delta: float) -> None:
        self.patience, self.min_delta = patience, min_delta
        self.best_score, self.wait_count = -math.inf, 0

    @property
    def is_due(self) -> bool:
        """Whether training must stop."""
        return self.patience is not None and self.wait_count >= self.patience

    def update(self, score: float) -> None:
        """Compare the macro accuracy of a validation (0-1) with the best one so far."""
        is_better = score - self.min_delta > self.best_score
        self.best_score, self.wait_count = (score, 0) if is_better else (self.best_score, self.wait_count + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"best": self.best_score, "waited": self.wait_count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.best_score, self.wait_count = state["best"], state["waited"]


CHECKPOINT_FORMAT = 1
"""Version of the content; rsft does not read files of another version."""

MAX_CHECKPOINTS = 2
"""Number of checkpoint files that stay."""

_log = logging.getLogger(__name__)


class TrainingPosition(NamedTuple):
    """A moment between two steps: the epoch from 0 (the number of epochs at the end), and its finished batches."""

    epoch: int = 0
    batch: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, batch {self.batch}" if self.batch else f"the start of epoch {self.epoch + 1}"


class Checkpoint(NamedTuple):
    """A saved state of training, and the position from which it continues."""

    position: TrainingPosition
    state: dict[str, Any]


def save_checkpoint(folder: Path, position: TrainingPosition, state: Mapping[str, Any]) -> Path:
    """Write a checkpoint, and delete all but the last two.

    Args:
        folder: the folder of the checkpoints.
        position: the position from which training continues.
        state: tensors, numbers and strings in nested containers.

    Returns:
        The path of the file.

    Raises:
        RsftError: the file cannot be written, for example because the disk is full; earlier checkpoints stay.
    """
    path = folder / f"{position.epoch:05d}-{position.batch:07d}.ckpt"
    try:
        with atomic_file(path) as temporary:
            torch.save({"format": CHECKPOINT_FORMAT, "position": tuple(position), "state": dict(state)}, temporary)
    except OSError as error:
        raise explain_os_error(error, path, "resume; the previous checkpoint is complete") from error
    for old_path in sorted(folder.glob("*.ckpt"))[:-MAX_CHECKPOINTS]:
        old_path.unlink(missing_ok=True)
    return path


def load_newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest readable checkpoint. Files are read with `weights_only`, so that no code in them runs.

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
            if content["format"] == CHECKPOINT_FORMAT:
                return Checkpoint(TrainingPosition(*content["position"]), content["state"])
            _log.warning("%s: format %s; this version of rsft reads %d", path, content["format"], CHECKPOINT_FORMAT)
        except ValueError as error:
            _log.warning("%s cannot be read: %s", path, error)
        except Exception as error:  # the type depends on where the file is damaged
            _log.warning("%s cannot be read (%s)", path, type(error).__name__)
    if files:
        raise RsftError("no checkpoint can be read", folder, "start the run again from its recipe.yaml")
    return None


class StopSignals:
    """Handler of SIGINT and SIGTERM within a `with` block, so that training saves its state before it ends.

    A second SIGINT ends the process at once. Outside of the main thread Python delivers no signals, so the handler
    receives none.

    Attributes:
        received: number of the signal; 0 before one arrives.
    """

    def __init__(self) -> None:
        self.received = 0
        self._handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

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
    """Saves the full state of training at intervals, after every epoch, and when a signal arrives.

    Args:
        run: the run that receives the checkpoints.
        learner: the classifier in training, with the section `train` of the recipe, which has the intervals.
        early_stopping: counts the validations.
        signals: the signals that stop the process.
    """

    def __init__(self, run: Run, learner: Learner, early_stopping: EarlyStopping, signals: StopSignals) -> None:
        self.run, self.train, self.learner = run, learner.train, learner
        self.early_stopping, self.signals = early_stopping, signals
        self._position = TrainingPosition()
        self._last_saved_at, self._steps_since_save = time.monotonic(), 0

    def restore(self, checkpoint: Checkpoint | None) -> TrainingPosition:
        """Restore a checkpoint, in all processes that of rank zero; None starts at the first step.

        Returns:
            The position from which training continues.
        """
        if self.learner.batches.shard[1] > 1:  # all processes start from the same weights
            checkpoint = broadcast_object(checkpoint or Checkpoint(TrainingPosition(), self._state()))
        if checkpoint is not None:
            self._position = checkpoint.position
            self.learner.load_state_dict(checkpoint.state)
            self.early_stopping.load_state_dict(checkpoint.state["early_stopping"])
        self._last_saved_at = time.monotonic()
        return self._position

    def advance(self, position: TrainingPosition) -> None:
        """Save a checkpoint if one is due after a step, and after every epoch, whose row is already written; or stop.

        Raises:
            Interrupted: a process received a signal; a checkpoint is saved.
        """
        self._position = position
        self._steps_since_save += self.learner.loops.batches_seen % self.train.accumulate_grad_batches == 0
        self._stop_if_signaled()
        steps, minutes = self.train.checkpoint_steps, self.train.checkpoint_minutes
        is_due = position.batch == 0 or (steps is not None and self._steps_since_save >= steps)
        if is_due or (minutes is not None and time.monotonic() - self._last_saved_at >= 60 * minutes):
            self._save()

    def after_validation_batch(self) -> None:
        """Stop within a validation, which a resumed run repeats. Several processes first finish the validation.

        Raises:
            Interrupted: the process received a signal; a checkpoint is saved.
        """
        if self.learner.batches.shard[1] == 1:
            self._stop_if_signaled()

    def _stop_if_signaled(self) -> None:
        """Save and raise `Interrupted` in all processes if one of them received a signal."""
        if received := all_reduce_max(self.signals.received, self.learner.device):
            self._save()
            raise Interrupted(received, f"saved at {self._position}")

    def _save(self) -> None:
        if self.run.is_writer:
            save_checkpoint(self.run.checkpoints_dir, self._position, self._state())
            self.run.update(position=tuple(self._position), seconds=self.run.seconds)
        self._last_saved_at, self._steps_since_save = time.monotonic(), 0

    def _state(self) -> dict[str, Any]:
        return self.learner.state_dict() | {"early_stopping": self.early_stopping.state_dict()}


VALIDATION_MEASURES = ("micro", "macro", *GROUPS)
"""Accuracies of the validation split: the columns val_* of metrics.csv."""


def fit(
    processes: Processes,
    learner: Learner,
    groups: dict[str, list[int]],
    evaluate: EvaluateSection,
    run: Run,
    listeners: Sequence[RunListener] = (),
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train the classifier of a learner in place.

    Args:
        processes: the launched processes, with device and precision.
        learner: takes the steps.
        groups: class indices of head, medium and tail.
        evaluate: the section `evaluate` of the recipe.
        run: the run that receives tables, metadata and checkpoints.
        listeners: called with the progress.
        checkpoint: the state from which training continues; None starts at the first step.

    Raises:
        Interrupted: SIGINT or SIGTERM; a checkpoint is saved.
        RsftError: a loss is not finite, or a file cannot be written.
    """
    batches, train = learner.batches, learner.train
    early_stopping = EarlyStopping(train.patience, train.min_delta)
    with Recorder(run, learner.timer, train.epochs, listeners) as recorder, StopSignals() as signals:
        checkpointer = Checkpointer(run, learner, early_stopping, signals)
        start = checkpointer.restore(checkpoint)
        for epoch in range(start.epoch, train.epochs):
            if early_stopping.is_due:
                break
            first = start.batch if epoch == start.epoch else 0
            recorder.start_epoch(epoch, batches.steps(epoch))
            learner.classifier.train()  # the frozen backbone stays in evaluation mode
            for index, batch in enumerate(batches.training_loader(epoch, first), first):
                with processes.autocast():
                    loss = train_on_batch(learner, processes.to_device(batch), epoch, index)
                recorder.add_step(index, loss, len(batch[1]) * processes.world_size)
                checkpointer.advance(TrainingPosition(epoch, index + 1))

            pace = recorder.pace()  # without the validation
            measures = dict.fromkeys(("val_loss", *(f"val_{name}" for name in VALIDATION_MEASURES)), math.nan)
            if (epoch + 1) % evaluate.every == 0 or epoch + 1 == train.epochs:
                measures = validate(processes, learner, groups, checkpointer.after_validation_batch)
                early_stopping.update(measures["val_macro"])
            modulator = learner.classifier.adapted.modulator
            recorder.end_epoch(learner.epoch_row(epoch) | measures | pace, modulator.scales() if modulator else {})
            checkpointer.advance(TrainingPosition(epoch + 1))
    if signals.received:  # after the last step
        raise Interrupted(signals.received, "saved at the end of training")


def train_on_batch(learner: Learner, batch: Batch, epoch: int, index: int) -> Tensor:
    """Take an inner step, and an outer step if one is due.

    Args:
        learner: the classifier in training.
        batch: network inputs (B, ...) and labels (B,) of this process, on the device of the classifier.
        epoch: number of the epoch from 0.
        index: number of the batch in its epoch from 0.

    Returns:
        The inner loss, a scalar.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite.
    """
    outer_batch = learner.prepare_step(epoch, index)
    try:
        loss, outer_loss = take_steps(learner.loops, batch, outer_batch)
    except NonFiniteLossError as error:
        raise learner.locate(error, batch, outer_batch, epoch, index) from error
    learner.steps += 1
    learner.losses[0].append(loss)
    if outer_loss is not None:
        learner.losses[1].append(outer_loss)
    return loss


def take_steps(loops: BiLevelLoop, batch: Batch, outer_batch: Batch | None = None) -> tuple[Tensor, Tensor | None]:
    """Update theta on a batch, and gamma on a batch of the meta subset, by the schedule of the recipe.

    Every process passes its own chips; gradients and losses are means over the processes.

    Args:
        loops: the two loops.
        batch: a batch of the inner loop.
        outer_batch: a batch of the outer loop, drawn from the meta subset; None if no outer step is due.

    Returns:
        The inner and the outer loss, scalars; the outer loss is None without `outer_batch`.

    Raises:
        NonFiniteLossError: a loss is not finite; its step is not taken.
    """
    is_joint = loops.meta is not None and loops.meta.schedule == "joint"
    if outer_batch is not None and is_joint:  # both gradients in one pass, at the same weights
        with loops.timer(inner=len(batch[1]), outer=len(outer_batch[1])):
            return loops.joint_step(batch, outer_batch)
    with loops.timer(inner=1):
        loss = loops.inner_step(batch)
    if outer_batch is None:
        return loss, None
    with loops.timer(outer=1):
        return loss, loops.outer_step(batch, outer_batch)


@torch.inference_mode()
def validate(
    processes: Processes, learner: Learner, groups: dict[str, list[int]], after_batch: Callable[[], None]
) -> dict[str, float]:
    """Return loss and accuracy on the validation split.

    Args:
        processes: the launched processes, with device and precision.
        learner: the classifier in training.
        groups: class indices of head, medium and tail.
        after_batch: called after each batch.

    Returns:
        The columns val_* of metrics.csv.
    """
    learner.classifier.eval()
    outputs = []
    for batch in learner.batches.validation_loader():
        inputs, labels = processes.to_device(batch)
        with processes.autocast():
            outputs.append((learner.classifier(inputs).float(), labels))
        after_batch()
    return measure_outputs(learner, outputs, groups)


def measure_outputs(learner: Learner, outputs: Sequence[Batch], groups: dict[str, list[int]]) -> dict[str, float]:
    """Compute loss and accuracy of the validation split over all processes.

    The loss has the class prior of the training split, so it can be compared between samplers.

    Args:
        learner: has the loss.
        outputs: logits (B, C) and labels (B,) of each batch of this process.
        groups: class indices of head, medium and tail.

    Returns:
        The columns val_* of metrics.csv.
    """
    local = [torch.cat(tensors).cpu() for tensors in zip(*outputs, strict=True)]
    logits, labels = (torch.cat(tensors) for tensors in zip(*all_gather_object(local), strict=True))
    predicted, truth = logits.argmax(1).cpu().numpy(), labels.cpu().numpy()
    summary = summarize_accuracy(predicted, truth, logits.shape[1], groups, resamples=1)
    intervals = {name: getattr(summary, name) for name in VALIDATION_MEASURES}
    loss = float(learner.loss.validation(logits, labels))
    return {"val_loss": loss} | {f"val_{name}": x.value if x else math.nan for name, x in intervals.items()}
