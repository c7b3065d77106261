"""The Lightning module: inner steps on theta, and an outer step on gamma after every `meta.outer_every` inner steps."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from rsft.data.imagery.augmentation import Augmentation
from rsft.data.loading.datamodule import (
    AugmentedChips,
    BatchSource,
    ChipDataModule,
    ChipImages,
    shard_batches,
    shard_loss_weight,
)
from rsft.metrics.accuracy import summarize_accuracy
from rsft.models.classifier import Classifier
from rsft.recipe.registries import LossFunction
from rsft.recipe.schema import MetaSection, Recipe
from rsft.training.distributed.collectives import all_gather_object
from rsft.training.meta.bilevel import Batch, BiLevelLoop, NonFiniteLossError
from rsft.training.meta.meta_split import MetaSplitter
from rsft.training.optim.losses import set_progress
from rsft.training.optim.optimizers import (
    base_lr,
    build_inner_optimizer,
    build_outer_optimizer,
    lr_factor,
    outer_lr_factor,
)
from rsft.training.precision import make_loss_scalers
from rsft.training.step_timer import StepTimer
from rsft.types import GROUPS, Indices

VALIDATION_MEASURES = ("micro", "macro", *GROUPS)
"""Accuracies of the validation split: the columns val_* of metrics.csv."""


class FineTuningModule(LightningModule):
    """Lightning module that trains a classifier by `BiLevelLoop`; without a section `meta`, only the inner loop runs.

    Args:
        classifier: the network.
        recipe: the recipe of the run.
        loss: a function of logits and labels.
        train_chips: the training chips, from which outer batches are drawn.
        meta_splitter: draws the meta subsets; None for plain PEFT.
        groups: class indices of head, medium and tail.

    Attributes:
        steps: number of inner batches so far.
        base_lr: learning rate of theta before schedule and warm-up.
        timer: measures inner and outer steps.
    """

    def __init__(
        self,
        classifier: Classifier,
        recipe: Recipe,
        loss: LossFunction,
        train_chips: BatchSource,
        meta_splitter: MetaSplitter | None,
        groups: dict[str, list[int]],
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.classifier, self.recipe, self.loss = classifier, recipe, loss
        self.train_chips, self.meta_splitter, self.groups = train_chips, meta_splitter, groups
        self.augmentation = Augmentation(recipe.data.augment, len(train_chips.contract.planes))
        self.theta = classifier.theta
        self.gamma = classifier.adapted.gamma
        self.base_lr = base_lr(recipe.train)
        self.scalers = make_loss_scalers(recipe.train.precision, next(classifier.parameters()).device.type)
        self.steps = 0
        self.timer = StepTimer(self.theta[0].is_cuda)
        self._validation = dict.fromkeys(("val_loss", *(f"val_{name}" for name in VALIDATION_MEASURES)), math.nan)
        self._inner_losses: list[Tensor] = []
        self._outer_losses: list[Tensor] = []
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimizers.

        Returns:
            SGD on theta, and with a section `meta` Adam on gamma.
        """
        inner, meta = build_inner_optimizer(self.classifier, self.recipe.train), self.recipe.meta
        return [inner] if meta is None else [inner, build_outer_optimizer(self.classifier, meta)]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Do nothing. `BiLevelLoop` clears gradients; Lightning would also clear them within an accumulated step.

        Args:
            set_to_none: ignored.
        """

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Take one inner step, and an outer step if one is due.

        Args:
            batch: network inputs (B, ...) and labels (B,) of this process.
            batch_idx: number of the batch in its epoch.

        Returns:
            The inner loss, a scalar.

        Raises:
            NonFiniteLossError: a loss is NaN or infinite.
        """
        loops, shard = self.bilevel, self.data_module.shard
        progress = self._position(batch_idx) / self.recipe.train.epochs
        self._set_learning_rates(batch_idx, progress)
        set_progress(self.loss, progress)
        torch.manual_seed(_derive_seed(self.recipe.seed, self.current_epoch, batch_idx, shard[0]))  # dropout
        meta_chips = self._meta_chips(batch_idx)
        batch_size = len(self.data_module.batch_indices(self.current_epoch, batch_idx))
        loops.loss_weights = (shard_loss_weight(batch_size, shard), shard_loss_weight(len(meta_chips), shard))
        outer_batch = None
        if len(meta_chips):
            outer_batch = self._load_outer_batch(shard_batches(meta_chips, len(meta_chips), shard)[0])
        try:
            loss, outer_loss = loops.step(batch, outer_batch)
        except NonFiniteLossError as error:
            raise self._locate(error, batch, outer_batch, batch_idx) from error
        self.steps += 1
        self._inner_losses.append(loss)
        if outer_loss is not None:
            self._outer_losses.append(outer_loss)
        return loss

    @cached_property
    def bilevel(self) -> BiLevelLoop:
        """The training loop; available after Lightning has created the optimizers."""
        optimizers = self.optimizers()
        inner, *outer = optimizers if isinstance(optimizers, list) else [optimizers]
        return BiLevelLoop(
            self.classifier,
            self.loss,
            inner,
            outer[0] if outer else None,
            self.recipe.meta,
            max_grad_norm=self.recipe.train.max_grad_norm,
            accumulate_grad_batches=self.recipe.train.accumulate_grad_batches,
            backward=self.manual_backward,
            timer=self.timer,
            scalers=self.scalers,
        )

    @property
    def data_module(self) -> ChipDataModule:
        """The data module of the trainer."""
        return cast(ChipDataModule, self.trainer.datamodule)  # type: ignore[attr-defined]

    def _set_learning_rates(self, batch_idx: int, progress: float) -> None:
        """Set the learning rates of both optimizers; `progress` is the finished fraction of the run."""
        loops = self.bilevel
        for group in loops.inner_optimizer.param_groups:
            group["lr"] = self.base_lr * self._lr_factor(batch_idx)
        for group in loops.outer_optimizer.param_groups if loops.outer_optimizer is not None else ():
            group["lr"] = self._meta.lr * outer_lr_factor(self._meta, progress)

    def _meta_chips(self, batch_idx: int) -> Indices:
        """Return the chips of the outer step of all processes (M,); empty if no step is due."""
        if self.meta_splitter is None or not self._outer_is_due(batch_idx):
            return np.array([], np.int64)
        return self.meta_splitter.meta_batch(self.current_epoch, batch_idx)

    def _load_outer_batch(self, indices: Indices) -> Batch:
        if isinstance(self.train_chips, ChipImages) and self.augmentation.is_active:
            augmented = AugmentedChips(self.train_chips, self.augmentation, self.recipe.seed, self.current_epoch)
            inputs, labels = self.train_chips.batch(indices, augment=augmented.image)
        else:
            inputs, labels = self.train_chips.batch(indices)
        return inputs.to(self.device), labels.to(self.device)

    @torch.no_grad()
    def _locate(
        self, error: NonFiniteLossError, batch: Batch, outer_batch: Batch | None, batch_idx: int
    ) -> NonFiniteLossError:
        """Return the error with the names of the chips with non-finite logits, or of all chips if no chip has any."""
        epoch, is_outer = self.current_epoch, error.loop == "outer"
        chips = self._meta_chips(batch_idx) if is_outer else self.data_module.batch_indices(epoch, batch_idx)
        inputs, _ = outer_batch if is_outer and outer_batch is not None else batch
        local_chips = shard_batches(chips, len(chips), self.data_module.shard)[0]
        is_bad = ~self.classifier(inputs).isfinite().all(1).cpu().numpy()
        bad_chips = np.concatenate(all_gather_object(local_chips[is_bad]))
        names = tuple(self.train_chips.names[index] for index in (bad_chips if len(bad_chips) else chips))
        return error.with_location(f"epoch {epoch + 1}, batch {batch_idx + 1}", names)

    @property
    def _meta(self) -> MetaSection:
        assert self.recipe.meta is not None
        return self.recipe.meta

    def _outer_is_due(self, batch_idx: int) -> bool:
        period = self._meta.outer_every * self.recipe.train.accumulate_grad_batches
        return self._position(batch_idx) >= self._meta.warmup and batch_idx % period == period - 1

    def _position(self, batch_idx: int) -> float:
        """Return the number of finished epochs, with the fraction of the current one."""
        return self.current_epoch + batch_idx / max(1, int(self.trainer.num_training_batches))

    def _lr_factor(self, batch_idx: int) -> float:
        """Return the factor of the base learning rate at the optimizer step to which a batch belongs."""
        batches, train = max(1, int(self.trainer.num_training_batches)), self.recipe.train
        step = (self.current_epoch * batches + batch_idx) // train.accumulate_grad_batches
        return lr_factor(train, step, train.epochs * batches // train.accumulate_grad_batches)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Collect the logits of a batch.

        Args:
            batch: network inputs (B, ...) and labels (B,) of this process.
            batch_idx: number of the batch.
        """
        inputs, labels = batch
        self._outputs.append((self.classifier(inputs).float(), labels))

    def on_validation_epoch_end(self) -> None:
        """Compute loss and accuracy of the validation split over all processes."""
        local = [torch.cat(tensors).cpu() for tensors in zip(*self._outputs, strict=True)]
        logits, labels = (torch.cat(tensors) for tensors in zip(*all_gather_object(local), strict=True))
        self._outputs.clear()
        predicted, truth = logits.argmax(1).cpu().numpy(), labels.cpu().numpy()
        summary = summarize_accuracy(predicted, truth, logits.shape[1], self.groups, resamples=1)
        self._validation = {"val_loss": float(self.loss(logits, labels))}
        for name in VALIDATION_MEASURES:
            interval = getattr(summary, name)
            self._validation[f"val_{name}"] = interval.value if interval else math.nan

    @property
    def val_macro(self) -> float:
        """Macro accuracy of the last validation, 0-1."""
        return self._validation["val_macro"]

    def epoch_row(self) -> dict[str, float]:
        """Return the measures of the epoch that ends, and reset them for the next one.

        Returns:
            Columns of metrics.csv; losses and accuracies are NaN without an outer step or a validation in the epoch.
        """
        row = {
            "epoch": self.current_epoch,
            "step": self.steps,
            "lr": self.base_lr * self._lr_factor(0),
            "train_loss": _mean(self._inner_losses),
            "meta_loss": _mean(self._outer_losses),
            **self._validation,
        }
        self._inner_losses.clear()
        self._outer_losses.clear()
        self._validation = dict.fromkeys(self._validation, math.nan)
        return row

    def counters(self) -> dict[str, Any]:
        """Return the steps so far and the losses of this epoch, for a checkpoint.

        Returns:
            "steps", and "losses" of the inner and the outer loop, each (K,) or None.
        """
        losses = (torch.stack(values) if values else None for values in (self._inner_losses, self._outer_losses))
        return {"steps": self.steps, "losses": list(losses)}

    def load_counters(self, state: dict[str, Any]) -> None:
        """Restore steps and losses from a checkpoint.

        Args:
            state: the state, from `counters`.
        """
        self.steps = state["steps"]
        self._inner_losses, self._outer_losses = ([] if values is None else list(values) for values in state["losses"])


def _derive_seed(*numbers: int) -> int:
    """Return a seed for torch from the seed of the recipe, epoch, batch and rank."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _mean(losses: list[Tensor]) -> float:
    return float(np.mean([loss.item() for loss in losses])) if losses else math.nan
