"""A classifier in training: its loops, learning rates, outer batches and losses, and their state for a checkpoint."""

import math
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsft.data.loading.batches import Batch, EpochBatches
from rsft.data.loading.samplers import shard_batches, shard_loss_weight
from rsft.models.classifier import Classifier, copy_to_device
from rsft.recipe.schema import MetaSection, TrainSection
from rsft.training.added import AddedChips
from rsft.training.meta.bilevel import MetaSplitter, NonFiniteLossError
from rsft.training.meta.schedules import outer_loop
from rsft.training.optim import optimizers
from rsft.training.optim.losses import DeferredReweighting
from rsft.training.processes import all_gather_object, average_statistics
from rsft.training.recorder import StepTimer
from rsft.training.semi import PseudoLabeler, WeightAverage
from rsft.types import Indices


class Learner:
    """A classifier with everything that changes while it trains.

    What a step depends on is a function of (seed, epoch, batch), so that a run can be
    resumed at any step.

    Args:
        classifier: the network, on its device.
        splitter: draws the meta subsets; None for plain PEFT.
        meta: the section `meta` of the recipe; None for plain PEFT.
        average: the mean of the weights, which is validated; None validates the last
            weights.
        labeler: gives unlabeled chips pseudo-labels; None trains on labeled chips only.
        added: chips of which the run stops as soon as all are right; None for none.

    Attributes:
        loops: takes the inner steps on theta and the outer steps on gamma.
        timer: measures inner and outer steps.
        steps: number of inner batches so far.
        losses: inner losses and outer losses of this epoch so far, scalars.
    """

    def __init__(
        self,
        classifier: Classifier,
        loss: optimizers.LossFunctions,
        batches: EpochBatches,
        splitter: MetaSplitter | None,
        train: TrainSection,
        meta: MetaSection | None,
        seed: int,
        average: WeightAverage | None = None,
        labeler: PseudoLabeler | None = None,
        added: AddedChips | None = None,
    ) -> None:
        self.average = average
        self.labeler = labeler
        self.added = added
        self.classifier = classifier
        self.loss = loss
        self.batches = batches
        self.splitter = splitter
        self.train = train
        self.meta = meta
        self.seed = seed
        self.device = classifier.theta[0].device
        self.timer = StepTimer(self.device.type == "cuda")
        inner_optimizer = optimizers.build_inner_optimizer(classifier, train)
        options: dict[str, Any] = {
            "outer_loss": loss.outer,
            "max_grad_norm": train.max_grad_norm,
            "accumulate_grad_batches": train.accumulate_grad_batches,
            "timer": self.timer,
            "scale_losses": train.precision == "fp16",
        }
        self.loops = outer_loop(meta).make_loops(
            classifier, loss.inner, inner_optimizer, meta, **options
        )
        self._base_lrs = [
            float(group["lr"]) for group in self.loops.inner_optimizer.param_groups
        ]
        self.steps = 0
        self.losses: tuple[list[Tensor], list[Tensor]] = ([], [])

    def prepare_step(self, epoch: int, index: int) -> Batch | None:
        """Set what depends on the position: learning rates, progress of the loss, the seed of dropout, loss weights.

        Epoch and index of the batch are numbers from 0.

        Returns:
            The batch of the outer step, on the device of the classifier; None if no
            outer step is due.
        """
        for group, lr in zip(
            self.loops.inner_optimizer.param_groups, self._base_lrs, strict=True
        ):
            group["lr"] = lr * self._lr_factor(epoch, index)
        progress = (epoch + index / self.batches.steps(epoch)) / self.train.epochs
        if self.loops.outer_optimizer is not None and self.meta is not None:
            for group in self.loops.outer_optimizer.param_groups:
                # without a warm-up: before the first inner step the gradient of gamma
                # is 0, and the first outer steps
                # can keep a run from diverging
                if self.meta.decay == "constant":
                    decay = 1.0
                else:
                    decay = optimizers.half_cosine(progress)
                group["lr"] = self.meta.lr * decay
        for loss in self.loss:
            if isinstance(loss, DeferredReweighting):
                loss.progress = progress
        entropy = (self.seed, epoch, index, self.batches.shard[0])
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        alpha = self.train.mixup
        if alpha is not None:
            self.loops.mixing = self._draw_mixing(alpha, epoch, index)
        outer_chips = self._outer_chips(epoch, index)
        sizes = len(self.batches.batch_indices(epoch, index)), len(outer_chips)
        inner_weight, outer_weight = (
            shard_loss_weight(size, self.batches.shard) for size in sizes
        )
        self.loops.loss_weights = inner_weight, outer_weight
        if self.labeler is not None:
            self.loops.pseudo = self.labeler.batch(epoch, index, progress)
        if not len(outer_chips):
            return None
        if self.splitter is not None:
            self.loops.load_trial_batches(
                self.splitter, epoch, partial(self._load_weighted, epoch)
            )
        return self._load(outer_chips, epoch)

    def _load_weighted(self, epoch: int, chips: Indices) -> tuple[Batch, float]:
        return self._load(chips, epoch), shard_loss_weight(
            len(chips), self.batches.shard
        )

    def _load(self, chips: Indices, epoch: int) -> Batch:
        """Return the part of this process of a batch of training chips (B,) on the device of the classifier."""
        inputs, labels = self.batches.load(chips, epoch)
        return copy_to_device(inputs, self.device), copy_to_device(labels, self.device)

    def add_losses(self, inner: Tensor, outer: Tensor | None) -> None:
        """Count a finished step, given its losses, scalars; `outer` is None without an outer step."""
        if self.batches.shard[1] > 1:
            average_statistics(self.classifier.adapted.vit)
        if self.average is not None:
            self.average.update(self.steps)
        self.steps += 1
        self.losses[0].append(inner)
        if outer is not None:
            self.losses[1].append(outer)

    def epoch_row(self, epoch: int) -> dict[str, float]:
        """Return the measures of an epoch (from 0) that ends, and reset its losses.

        Returns:
            Columns of metrics.csv; "meta_loss" is NaN without an outer step in the
            epoch.
        """
        inner, outer = (
            float(np.mean([float(loss) for loss in x])) if x else math.nan
            for x in self.losses
        )
        for values in self.losses:
            values.clear()
        lr = optimizers.base_lr(self.train) * self._lr_factor(epoch, 0)
        return {
            "epoch": epoch,
            "step": self.steps,
            "lr": lr,
            "train_loss": inner,
            "meta_loss": outer,
        }

    def _draw_mixing(
        self, alpha: float, epoch: int, index: int
    ) -> tuple[float, Tensor] | None:
        """Return the share and the order of a mixed batch of this process; None for half of the batches."""
        rng = np.random.default_rng((self.seed, epoch, 7, index))
        if rng.random() < 0.5:
            return None
        share = float(rng.beta(alpha, alpha))
        rank, world_size = self.batches.shard
        size = max(
            1,
            len(range(rank, len(self.batches.batch_indices(epoch, index)), world_size)),
        )
        return share, torch.from_numpy(rng.permutation(size)).to(self.device)

    def take_pseudo_counts(self) -> list[int]:
        """Return the chips of an epoch with a pseudo-label of each class, foreign ones, and all, and count from 0.

        Returns:
            Counts (C + 2,) over all processes; empty without unlabeled chips.
        """
        if self.labeler is None:
            return []
        counts: list[int] = self.labeler.counts.tolist()
        self.labeler.counts.zero_()
        return counts

    def state_dict(self) -> dict[str, Any]:
        """Return all state that changes during training, between two steps.

        Every random number is a function of (seed, epoch, batch), so the state has no
        random generators.

        Returns:
            The state for a checkpoint, with tensors on the CPU.
        """
        loops = self.loops
        is_step_unfinished = loops.batches_seen % loops.accumulate_grad_batches != 0
        state: dict[str, Any] = {
            "learned": (
                self.average.current_state()
                if self.average
                else self.classifier.learned_state()
            ),
            "optimizers": [optimizer.state_dict() for optimizer in loops.optimizers],
            "scalers": [
                scaler.state_dict()
                for scaler in (loops.inner_scaler, loops.outer_scaler)
            ],
            "gradients": (
                [parameter.grad for parameter in loops.theta]
                if is_step_unfinished
                else None
            ),
            "calls": loops.batches_seen,
            "skipped": loops.skipped_steps,
            "steps": self.steps,
            "losses": [
                torch.stack(values) if values else None for values in self.losses
            ],
        }
        if self.average is not None:
            state["average"] = self.average.state
        if self.labeler is not None:
            state["labeler"] = self.labeler.state_dict()
        state |= {
            name: parameter.detach() for name, parameter in loops.own_parameters.items()
        }
        return {name: _to_cpu(value) for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        loops = self.loops
        self.classifier.load_learned_state(state["learned"])
        for optimizer, values in zip(
            loops.optimizers, state["optimizers"], strict=True
        ):
            optimizer.load_state_dict(values)
        for scaler, values in zip(
            (loops.inner_scaler, loops.outer_scaler), state["scalers"], strict=True
        ):
            scaler.load_state_dict(values)
        for parameter, gradient in zip(
            loops.theta, state["gradients"] or (), strict=False
        ):
            if gradient is None:
                parameter.grad = None
            else:
                parameter.grad = gradient.to(parameter.device)
        loops.batches_seen = state["calls"]
        loops.skipped_steps = state["skipped"]
        self.steps = state["steps"]
        inner, outer = (
            [] if values is None else list(values.to(self.device))
            for values in state["losses"]
        )
        self.losses = inner, outer
        if self.average is not None:
            self.average.state = {
                name: tensor.to(self.device)
                for name, tensor in state["average"].items()
            }
        if self.labeler is not None:
            self.labeler.load_state_dict(state["labeler"])
        for name, parameter in loops.own_parameters.items():
            parameter.data.copy_(state[name])

    def keep_average(self) -> None:
        """Give the classifier the mean of the weights for good, at the end of training."""
        if self.average is not None:
            self.classifier.load_learned_state(self.average.state)

    def use_average(self) -> AbstractContextManager[None]:
        """Return a context in which the classifier has the weights that are validated and stored."""
        if self.average is None:
            return nullcontext()
        return self.average.in_classifier()

    def _lr_factor(self, epoch: int, index: int) -> float:
        """Return the factor of the base learning rate at the optimizer step to which a batch belongs."""
        batches = self.batches.steps(epoch)
        accumulated = self.train.accumulate_grad_batches
        step = epoch * batches + index
        steps = self.train.epochs * batches
        return optimizers.lr_factor(
            self.train, step // accumulated, steps // accumulated
        )

    def _outer_chips(self, epoch: int, index: int) -> Indices:
        """Return the chips of the outer step of all processes (M,); empty if no step is due."""
        if self.splitter is not None and self._is_outer_step_due(epoch, index):
            return self.splitter.meta_batch(epoch, index)
        return np.array([], np.int64)

    def _is_outer_step_due(self, epoch: int, index: int) -> bool:
        steps = self.batches.steps(epoch)
        accumulated = self.train.accumulate_grad_batches
        return self.splitter is not None and self.splitter.is_due(
            epoch, index, steps, accumulated
        )

    def has_outer_steps(self) -> bool:
        """Return whether the whole run contains an outer step."""
        epochs = range(self.train.epochs)
        return any(
            self._is_outer_step_due(x, index)
            for x in epochs
            for index in range(self.batches.steps(x))
        )

    @torch.no_grad()
    def locate(
        self,
        error: NonFiniteLossError,
        batch: Batch,
        outer_batch: Batch | None,
        epoch: int,
        index: int,
    ) -> NonFiniteLossError:
        """Name the chips with non-finite logits, or all chips of the batch if no chip has any.

        Args:
            error: the error of a step.
            batch: the batch of the inner step.
            outer_batch: the batch of the outer step, if there was one.
            epoch: number of the epoch from 0.
            index: number of the batch in its epoch from 0.

        Returns:
            The error with epoch, batch and chips.
        """
        chips = self.batches.batch_indices(epoch, index)
        inputs, _ = batch
        if error.loop == "outer" and outer_batch is not None:
            chips = self._outer_chips(epoch, index)
            inputs, _ = outer_batch
        local_chips = shard_batches(chips, len(chips), self.batches.shard)[0]
        is_bad = ~self.classifier(inputs).isfinite().all(1).cpu().numpy()
        bad_chips = np.concatenate(all_gather_object(local_chips[is_bad]))
        names = tuple(
            self.batches.train.names[chip]
            for chip in (bad_chips if len(bad_chips) else chips)
        )
        return error.with_location(f"epoch {epoch + 1}, batch {index + 1}", names)


def _to_cpu(value: Any) -> Any:
    """Return a value in which all tensors of dictionaries, lists and tuples are on the CPU."""
    if isinstance(value, Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _to_cpu(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_to_cpu, value))
    return value
