"""The training loop: steps, validation, early stopping and checkpoints by epoch."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rsft.data.loading.batches import Batch
from rsft.errors import Interrupted
from rsft.metrics.accuracy import summarize_accuracy
from rsft.models.devices import copy_batch
from rsft.recipe.schema import EvaluateSection
from rsft.training.checkpointing import (
    Checkpoint,
    Checkpointer,
    StopSignals,
    TrainingPosition,
)
from rsft.training.learner import Learner
from rsft.training.listeners import RunListener
from rsft.training.meta.bilevel import BiLevelLoop, NonFiniteLossError
from rsft.training.objective import Objective
from rsft.training.parts.base import Moment
from rsft.training.processes import all_gather_object
from rsft.training.recorder import EarlyStopping, Recorder, StepTimer
from rsft.training.runs.reader import Epoch
from rsft.training.runs.writer import Run
from rsft.types import GROUPS

VALIDATION_MEASURES = ("micro", "macro", *GROUPS)
"""Accuracies of the validation split: the columns val_* of metrics.csv."""


def fit(
    learner: Learner,
    groups: dict[str, list[int]],
    evaluate: EvaluateSection,
    run: Run,
    listeners: Sequence[RunListener] = (),
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train the classifier of a learner in place.

    Args:
        learner: takes the steps.
        groups: class indices of head, medium and tail.
        evaluate: the section `evaluate` of the recipe.
        run: the run that receives tables, metadata and checkpoints.
        listeners: called with the progress.
        checkpoint: the state from which training continues; None starts at the first
            step.

    Raises:
        Interrupted: SIGINT or SIGTERM; a checkpoint is saved.
        RsftError: a loss is not finite, or a file cannot be written.
    """
    train = learner.train
    world_size = learner.batches.shard[1]
    early_stopping = EarlyStopping(train.patience, train.min_delta)
    with (
        Recorder(run, learner.timer, train.epochs, listeners) as recorder,
        StopSignals() as signals,
    ):
        checkpointer = Checkpointer(run, train, learner, early_stopping, signals)
        start = checkpointer.restore(checkpoint)
        for epoch in range(start.epoch, train.epochs):
            first = start.batch if epoch == start.epoch else 0
            # not where a run resumes within an epoch
            is_after_epoch = epoch > 0 and first == 0
            if early_stopping.is_due or (is_after_epoch and learner.is_done()):
                break
            recorder.start_epoch(epoch, learner.batches.steps(epoch))
            for index, loss, chips in train_epoch(learner, epoch, first):
                recorder.add_step(index, loss, chips * world_size)
                checkpointer.after_step(TrainingPosition(epoch, index + 1))

            recorder.stop_clock()
            measures = dict.fromkeys(
                ("val_loss", *(f"val_{name}" for name in VALIDATION_MEASURES)), math.nan
            )
            if (epoch + 1) % evaluate.every == 0 or epoch + 1 == train.epochs:
                with learner.use_stored_weights():
                    measures = validate(learner, groups, signals)
                checkpointer.stop_if_signaled()
                early_stopping.update(measures["val_macro"])
            row = learner.epoch_row(epoch) | measures
            recorder.end_epoch(row, learner.loops.factors())
            learner.end_epoch(run, epoch)
            checkpointer.after_epoch(TrainingPosition(epoch + 1))
    if signals.received:  # after the last step
        raise Interrupted(signals.received, "saved at the end of training")


def train_epoch(
    learner: Learner, epoch: int, first: int = 0
) -> Iterator[tuple[int, Tensor, int]]:
    """Take the steps of an epoch.

    Args:
        learner: takes the steps.
        epoch: number of the epoch from 0.
        first: number of the batch with which to begin.

    Yields:
        After each step: the number of its batch from 0, the inner loss, a scalar, and
            the chips of this process.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite.
    """
    learner.classifier.train()  # the frozen backbone stays in evaluation mode
    for index, batch in enumerate(learner.batches.training_loader(epoch, first), first):
        with learner.autocast():
            loss = train_on_batch(
                learner, copy_batch(batch, learner.device), epoch, index
            )
        yield index, loss, len(batch[1])


def train_on_batch(learner: Learner, batch: Batch, epoch: int, index: int) -> Tensor:
    """Take an inner step, and an outer step if one is due.

    Args:
        learner: the classifier in training.
        batch: network inputs (B, ...) and labels (B,) of this process, on the device of
            the classifier.
        epoch: number of the epoch from 0.
        index: number of the batch in its epoch from 0.

    Returns:
        The inner loss, a scalar.

    Raises:
        NonFiniteLossError: a loss is NaN or infinite.
    """
    objective = learner.prepare_step(epoch, index)
    try:
        loss, outer_loss = take_steps(learner.loops, batch, objective, learner.timer)
    except NonFiniteLossError as error:
        moment = Moment(epoch, index, learner.progress)
        learner.locate(error, batch, objective, moment)
        raise
    learner.add_losses(loss, outer_loss)
    return loss


def take_steps(
    loops: BiLevelLoop,
    batch: Batch,
    objective: Objective,
    timer: StepTimer | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Update theta, and gamma if the objective has an outer batch.

    Every process passes its own chips; gradients and losses are means over the
    processes.

    Args:
        loops: the two loops.
        batch: a batch of the inner loop.
        objective: the losses of the step.
        timer: measures the phases "inner" and "outer"; a joint pass is "inner".

    Returns:
        The inner and the outer loss, scalars; the outer loss is None without an outer
            step.

    Raises:
        NonFiniteLossError: a loss is not finite; its step is not taken.
    """
    timer = timer or StepTimer()
    outer_batch = objective.outer_batch
    if outer_batch and loops.is_joint:
        with timer("inner"):
            return loops.joint_step(batch, objective)
    with timer("inner"):
        loss = loops.inner_step(batch, objective)
    if not outer_batch:
        return loss, None
    with timer("outer"):
        return loss, loops.outer_step(batch, objective)


@torch.inference_mode()
def validate(
    learner: Learner,
    groups: dict[str, list[int]],
    signals: StopSignals,
) -> Epoch:
    """Return loss and accuracy on the validation split.

    At a signal, a single process measures no more chips: a resumed run repeats the
    validation. Several processes finish it.

    Args:
        learner: the classifier in training.
        groups: class indices of head, medium and tail.
        signals: the signals that stop the process.

    Returns:
        The columns val_* of metrics.csv.
    """
    learner.classifier.eval()
    outputs = []
    for batch in learner.batches.validation_loader():
        inputs, labels = copy_batch(batch, learner.device)
        with learner.autocast():
            outputs.append((learner.classifier(inputs).float(), labels))
        if signals.received and learner.batches.shard[1] == 1:
            break
    return measure_outputs(learner, outputs, groups)


def measure_outputs(
    learner: Learner,
    outputs: Sequence[tuple[Tensor, Tensor]],
    groups: dict[str, list[int]],
) -> Epoch:
    """Compute loss and accuracy of the validation split over all processes.

    The loss has the class prior of the training split, so it can be compared between
    samplers.

    Args:
        learner: has the loss.
        outputs: logits (B, C) and labels (B,) of each batch of this process.
        groups: class indices of head, medium and tail.

    Returns:
        The columns val_* of metrics.csv.
    """
    local = [torch.cat(tensors).cpu() for tensors in zip(*outputs, strict=True)]
    of_processes = all_gather_object(local)
    logits = torch.cat([tensors[0] for tensors in of_processes])
    labels = torch.cat([tensors[1] for tensors in of_processes])
    predicted = logits.argmax(1).cpu().numpy()
    truth = labels.cpu().numpy()
    summary = summarize_accuracy(predicted, truth, logits.shape[1], groups, resamples=1)
    intervals = {name: getattr(summary, name) for name in VALIDATION_MEASURES}
    accuracies = {
        f"val_{name}": interval.value if interval else math.nan
        for name, interval in intervals.items()
    }
    return {"val_loss": learner.validation_loss(logits, labels), **accuracies}
