"""The Lightning task: inner steps on theta, and every K of them one outer step on gamma."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from rsft.data.imagery.augmentation import Augmentation
from rsft.data.loading.datamodule import AugmentedChips, Batches, ChipData, ChipImages, shares, weight
from rsft.metrics.accuracy import summarise
from rsft.models.classifier import Classifier
from rsft.recipe.schema import Meta, Recipe
from rsft.training.distributed.collectives import gather
from rsft.training.meta.bilevel import Batch, BiLevel, NotFinite
from rsft.training.meta.meta_split import MetaRounds
from rsft.training.optim.losses import Loss, advance
from rsft.training.optim.optimizers import full_rate, inner_optimiser, outer_optimiser, outer_share, rate_share
from rsft.training.precision import loss_scalers
from rsft.training.step_timer import Stopwatch
from rsft.types import Indices

MEASURES = ("micro", "macro", "head", "medium", "tail")


class FineTuning(LightningModule):
    """Trains a classifier as a recipe says; with a meta section, by the bi-level loop.

    Args:
        chips: the training chips, from which outer batches are drawn.
        rounds: the meta subsets; None is plain PEFT.
        groups: head, medium and tail as class indices.
    """

    def __init__(
        self,
        classifier: Classifier,
        recipe: Recipe,
        loss: Loss,
        chips: Batches,
        rounds: MetaRounds | None,
        groups: dict[str, list[int]],
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.classifier, self.recipe, self.loss = classifier, recipe, loss
        self.chips, self.rounds, self.groups = chips, rounds, groups
        self.augmentation = Augmentation(recipe.data.augment, len(chips.contract.planes))
        self.theta = classifier.theta
        self.gamma = classifier.adapted.gamma
        self.learning_rate = full_rate(recipe.train)
        self.scalers = loss_scalers(recipe.train.precision, next(classifier.parameters()).device.type)
        self.steps = 0
        self.watch = Stopwatch(self.theta[0].is_cuda)
        self._validation = dict.fromkeys(("val_loss", *(f"val_{name}" for name in MEASURES)), math.nan)
        self._inner_losses: list[Tensor] = []
        self._outer_losses: list[Tensor] = []
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """SGD on theta, Adam on gamma."""
        inner, meta = inner_optimiser(self.classifier, self.recipe.train), self.recipe.meta
        return [inner] if meta is None else [inner, outer_optimiser(self.classifier, meta)]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: the loops forget gradients; Lightning would before a validation, amid an accumulated step."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One inner step, and the outer step where one is due."""
        loops, place = self.loops, self.data.place
        done = self._position(batch_idx) / self.recipe.train.epochs
        for group in loops.inner.param_groups:
            group["lr"] = self.learning_rate * self._rate(batch_idx)
        for group in loops.outer.param_groups if loops.outer is not None else ():
            group["lr"] = self._meta.lr * outer_share(self._meta, done)
        advance(self.loss, done)
        torch.manual_seed(_seed(self.recipe.seed, self.current_epoch, batch_idx, place[0]))  # for dropout
        meta = self._meta_chips(batch_idx)
        loops.weights = (weight(len(self.data.batch(self.current_epoch, batch_idx)), place), weight(len(meta), place))
        outer = self._outer_batch(shares(meta, len(meta), place)[0]) if len(meta) else None
        try:
            loss, outer_loss = loops.step(batch, outer)
        except NotFinite as error:
            raise self._named(error, batch, outer, batch_idx) from error
        self.steps += 1
        self._inner_losses.append(loss)
        if outer_loss is not None:
            self._outer_losses.append(outer_loss)
        return loss

    @cached_property
    def loops(self) -> BiLevel:
        """The two loops, once there are optimisers."""
        found = self.optimizers()
        inner, *outer = found if isinstance(found, list) else [found]
        return BiLevel(
            self.classifier,
            self.loss,
            inner,
            outer[0] if outer else None,
            self.recipe.meta,
            clip_norm=self.recipe.train.clip_norm,
            accumulate=self.recipe.train.accumulate,
            backward=self.manual_backward,
            watch=self.watch,
            scalers=self.scalers,
        )

    @property
    def data(self) -> ChipData:
        """The data module that the trainer was given."""
        return cast(ChipData, self.trainer.datamodule)  # type: ignore[attr-defined]

    def _meta_chips(self, batch_idx: int) -> Indices:
        """Chips of the meta subset, over all processes; none where no outer step is due."""
        if self.rounds is None or not self._outer_is_due(batch_idx):
            return np.array([], np.int64)
        return self.rounds.batch(self.current_epoch, batch_idx)

    def _outer_batch(self, chosen: Indices) -> Batch:
        if isinstance(self.chips, ChipImages) and self.augmentation.changes:
            view = AugmentedChips(self.chips, self.augmentation, self.recipe.seed, self.current_epoch)
            inputs, labels = self.chips.batch(chosen, augment=view.image)
        else:
            inputs, labels = self.chips.batch(chosen)
        return inputs.to(self.device), labels.to(self.device)

    @torch.no_grad()
    def _named(self, error: NotFinite, batch: Batch, outer: Batch | None, batch_idx: int) -> NotFinite:
        """The error with the chips' names: those whose own logits are not finite, or where all are, the whole batch."""
        epoch, place = self.current_epoch, self.data.place
        chips = self._meta_chips(batch_idx) if error.loop == "outer" else self.data.batch(epoch, batch_idx)
        inputs, _ = outer if error.loop == "outer" and outer is not None else batch
        own = shares(chips, len(chips), place)[0]
        bad = np.concatenate(gather(own[~self.classifier(inputs).isfinite().all(1).cpu().numpy()]))
        names = tuple(self.chips.names[index] for index in (bad if len(bad) else chips))
        return error.at(f"epoch {epoch + 1}, batch {batch_idx + 1}", names)

    @property
    def _meta(self) -> Meta:
        assert self.recipe.meta is not None
        return self.recipe.meta

    def _outer_is_due(self, batch_idx: int) -> bool:
        period = self._meta.every * self.recipe.train.accumulate
        return self._position(batch_idx) >= self._meta.warmup and batch_idx % period == period - 1

    def _position(self, batch_idx: int) -> float:
        """Epochs done, as a fraction."""
        return self.current_epoch + batch_idx / max(1, int(self.trainer.num_training_batches))

    def _rate(self, batch_idx: int) -> float:
        """Share of the learning rate at the optimiser step that this batch belongs to."""
        batches, train = max(1, int(self.trainer.num_training_batches)), self.recipe.train
        step = (self.current_epoch * batches + batch_idx) // train.accumulate
        return rate_share(train, step, train.epochs * batches // train.accumulate)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Collect logits; the numbers are made at the end of the epoch."""
        inputs, labels = batch
        self._outputs.append((self.classifier(inputs).float(), labels))

    def on_validation_epoch_end(self) -> None:
        """Sum up the validation split."""
        own = [torch.cat(parts).cpu() for parts in zip(*self._outputs, strict=True)]
        logits, labels = (torch.cat(parts) for parts in zip(*gather(own), strict=True))
        self._outputs.clear()
        predicted, truth = logits.argmax(1).cpu().numpy(), labels.cpu().numpy()
        summary = summarise(predicted, truth, logits.shape[1], self.groups, resamples=1)
        self._validation = {"val_loss": float(self.loss(logits, labels))}
        for name in MEASURES:
            interval = getattr(summary, name)
            self._validation[f"val_{name}"] = interval.value if interval else math.nan

    @property
    def val_macro(self) -> float:
        """Of the validation that was last."""
        return self._validation["val_macro"]

    def epoch_row(self) -> dict[str, float]:
        """The numbers of the epoch that ends; NaN where it had no outer step or no validation."""
        row = {
            "epoch": self.current_epoch,
            "step": self.steps,
            "lr": self.learning_rate * self._rate(0),
            "train_loss": _mean(self._inner_losses),
            "meta_loss": _mean(self._outer_losses),
            **self._validation,
        }
        self._inner_losses.clear()
        self._outer_losses.clear()
        self._validation = dict.fromkeys(self._validation, math.nan)
        return row

    def tallies(self) -> dict[str, Any]:
        """What is counted in this epoch, for a checkpoint."""
        losses = (torch.stack(each) if each else None for each in (self._inner_losses, self._outer_losses))
        return {"steps": self.steps, "losses": list(losses)}

    def take_tallies(self, state: dict[str, Any]) -> None:
        """Take back what `tallies` gave."""
        self.steps = state["steps"]
        self._inner_losses, self._outer_losses = ([] if each is None else list(each) for each in state["losses"])


def _seed(*names: int) -> int:
    """Of torch's generators, from the names of a moment."""
    return int(np.random.SeedSequence(names).generate_state(1)[0])


def _mean(losses: list[Tensor]) -> float:
    return float(np.mean([loss.item() for loss in losses])) if losses else math.nan
