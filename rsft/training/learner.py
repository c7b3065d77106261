"""A classifier in training: its loops, parts and losses, and their state."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsft.data.chips.class_names import list_first_names
from rsft.data.loading.batches import Batch, EpochBatches
from rsft.data.loading.samplers import shard_batches, shard_loss_weight
from rsft.models.classifier import Classifier
from rsft.recipe.schema import TrainSection
from rsft.training.meta.bilevel import BiLevelLoop, NonFiniteLossError
from rsft.training.objective import Objective
from rsft.training.optim import optimizers
from rsft.training.optim.losses import loss_at
from rsft.training.parts.base import Autocast, Moment, Part, StateDict
from rsft.training.processes import all_gather_object, average_statistics
from rsft.training.recorder import StepTimer
from rsft.training.runs.reader import Epoch
from rsft.training.runs.writer import Run
from rsft.types import JsonObject

MAX_CHIPS_IN_MESSAGE = 6
"""Names of chips that an error message lists; run.json lists all."""


class Learner:
    """A classifier with everything that changes while it trains.

    What a step depends on is a function of (seed, epoch, batch), so that a run can be
    resumed at any step.

    Args:
        classifier: the network, on its device.
        loops: takes the inner steps on theta and the outer steps on gamma.
        loss: the losses of both loops, and of the validation.
        batches: the chips.
        train: the section `train` of the recipe.
        parts: what else changes a step or an epoch, in this order.
        autocast: returns the context of a forward pass.

    Attributes:
        timer: measures inner and outer steps.
        steps: number of inner batches so far.
        losses: inner losses and outer losses of this epoch so far, scalars.
        progress: finished share of the training at the last step.
    """

    def __init__(
        self,
        classifier: Classifier,
        loops: BiLevelLoop,
        loss: optimizers.LossFunctions,
        batches: EpochBatches,
        train: TrainSection,
        parts: Sequence[Part] = (),
        autocast: Autocast = nullcontext,
    ) -> None:
        self.classifier = classifier
        self.loops = loops
        self.loss = loss
        self.batches = batches
        self.train = train
        self.parts = parts
        self.autocast = autocast
        self.device = classifier.theta[0].device
        self.timer = StepTimer(self.device.type == "cuda")
        self._base_lrs = [
            float(group["lr"]) for group in loops.inner_optimizer.param_groups
        ]
        self.steps = 0
        self.losses: tuple[list[Tensor], list[Tensor]] = ([], [])
        self.progress = 0.0

    def prepare_step(self, epoch: int, index: int) -> Objective:
        """Set the learning rates and the seed of dropout, and compose the losses.

        Epoch and index of the batch are numbers from 0.

        Returns:
            The losses of the step.
        """
        factor = self._lr_factor(epoch, index)
        groups = self.loops.inner_optimizer.param_groups
        for group, lr in zip(groups, self._base_lrs, strict=True):
            group["lr"] = lr * factor
        self.progress = (epoch + index / self.batches.steps(epoch)) / self.train.epochs
        shard = self.batches.shard
        entropy = (self.batches.seed, epoch, index, shard[0])
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        chips = len(self.batches.batch_indices(epoch, index))
        objective = Objective(
            loss_at(self.loss.inner, self.progress),
            loss_at(self.loss.outer, self.progress),
            inner_weight=shard_loss_weight(chips, shard),
        )
        moment = Moment(epoch, index, self.progress)
        for part in self.parts:
            objective = part.prepare(moment, objective)
        return objective

    def add_losses(self, inner: Tensor, outer: Tensor | None) -> None:
        """Count a finished step.

        Args:
            inner: the loss of the inner loop, a scalar.
            outer: the loss of the outer loop, a scalar; None without an outer step.
        """
        if self.batches.shard[1] > 1:
            average_statistics(self.classifier.adapted.vit)
        for part in self.parts:
            part.after_step(self.steps)
        self.steps += 1
        self.losses[0].append(inner)
        if outer is not None:
            self.losses[1].append(outer)

    def epoch_row(self, epoch: int) -> Epoch:
        """Return the measures of an epoch (from 0) that ends, and reset its losses.

        Returns:
            Columns of metrics.csv; "meta_loss" is NaN without an outer step in the
            epoch.
        """
        means = []
        for losses in self.losses:
            values = [float(loss) for loss in losses]
            means.append(float(np.mean(values)) if values else math.nan)
            losses.clear()
        lr = optimizers.base_lr(self.train) * self._lr_factor(epoch, 0)
        return {
            "epoch": epoch,
            "step": self.steps,
            "lr": lr,
            "train_loss": means[0],
            "meta_loss": means[1],
        }

    def end_epoch(self, run: Run, epoch: int) -> None:
        """Let the parts write what they have counted in an epoch."""
        for part in self.parts:
            part.end_epoch(run, epoch)

    @contextmanager
    def use_stored_weights(self) -> Iterator[None]:
        """Give the classifier the weights that are validated and stored."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.use_weights())
            yield

    def is_done(self) -> bool:
        """Return whether a part ends the training after an epoch."""
        with self.use_stored_weights():
            return any(part.is_done() for part in self.parts)

    def finish(self) -> JsonObject:
        """Give the classifier its final weights, and return entries of run.json."""
        entries: JsonObject = {}
        for part in self.parts:
            entries |= part.finish()
        return entries

    def validation_loss(self, logits: Tensor, labels: Tensor) -> float:
        """Return the loss of logits (N, C) and labels (N,) of validation chips."""
        return float(loss_at(self.loss.validation, self.progress)(logits, labels))

    def state_dict(self) -> StateDict:
        """Return all state that changes during training, between two steps.

        Every random number is a function of (seed, epoch, batch), so the state has no
        random generators.

        Returns:
            The state for a checkpoint, with tensors on the CPU.
        """
        loops = self.loops
        scalers = (loops.inner_scaler, loops.outer_scaler)
        gradients = None
        if loops.is_step_unfinished:
            gradients = [parameter.grad for parameter in loops.theta]
        losses = [torch.stack(values) if values else None for values in self.losses]
        state: StateDict = {
            "learned": self.classifier.learned_state(),
            "optimizers": [optimizer.state_dict() for optimizer in loops.optimizers],
            "scalers": [scaler.state_dict() for scaler in scalers],
            "gradients": gradients,
            "calls": loops.batches_seen,
            "steps": self.steps,
            "losses": losses,
        }
        for part in self.parts:
            state_of_part = part.state_dict()
            if state_of_part:
                state[part.name] = state_of_part
        for name, parameter in loops.own_parameters.items():
            state[name] = parameter.detach()
        return {name: _to_cpu(value) for name, value in state.items()}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the state of a checkpoint."""
        loops = self.loops
        scalers = (loops.inner_scaler, loops.outer_scaler)
        self.classifier.load_learned_state(state["learned"])
        for optimizer, values in zip(
            loops.optimizers, state["optimizers"], strict=True
        ):
            optimizer.load_state_dict(values)
        for scaler, values in zip(scalers, state["scalers"], strict=True):
            scaler.load_state_dict(values)
        gradients = state["gradients"] or ()
        for parameter, gradient in zip(loops.theta, gradients, strict=False):
            parameter.grad = None
            if gradient is not None:
                parameter.grad = gradient.to(parameter.device)
        loops.batches_seen = state["calls"]
        self.steps = state["steps"]
        for losses, values in zip(self.losses, state["losses"], strict=True):
            losses[:] = [] if values is None else values.to(self.device)
        for part in self.parts:
            if part.name in state:
                part.load_state_dict(state[part.name])
        for name, parameter in loops.own_parameters.items():
            parameter.data.copy_(state[name])

    def _lr_factor(self, epoch: int, index: int) -> float:
        """Return the factor of the base learning rate at the step of a batch."""
        batches = self.batches.steps(epoch)
        accumulated = self.train.accumulate_grad_batches
        step = epoch * batches + index
        steps = self.train.epochs * batches
        return optimizers.lr_factor(
            self.train, step // accumulated, steps // accumulated
        )

    @torch.no_grad()
    def locate(
        self, error: NonFiniteLossError, batch: Batch, objective: Objective, at: Moment
    ) -> None:
        """Add epoch, batch and chips to an error.

        The chips are those with non-finite logits, or all chips if no chip has any.

        Args:
            error: the error of a step.
            batch: the batch of the inner step.
            objective: the losses of the step.
            at: the step.
        """
        chips = self.batches.batch_indices(at.epoch, at.batch)
        inputs, _ = batch
        if error.loop == "outer" and objective.outer_batch:
            assert objective.outer_chips is not None
            chips = objective.outer_chips
            inputs, _ = objective.outer_batch
        local_chips = shard_batches(chips, len(chips), self.batches.shard)[0]
        is_bad = ~self.classifier(inputs).isfinite().all(1).cpu().numpy()
        bad_chips = np.concatenate(all_gather_object(local_chips[is_bad]))
        if len(bad_chips):
            chips = bad_chips
        error.chips = tuple(self.batches.train.names[chip] for chip in chips)
        listed = list_first_names(error.chips, MAX_CHIPS_IN_MESSAGE)
        error.location = (
            f"epoch {at.epoch + 1}, batch {at.batch + 1}, chips {listed}; run.json"
            " names them all"
        )


def _to_cpu(value: Any) -> Any:
    """Return a value with all tensors of its containers on the CPU."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_to_cpu, value))
    return value
