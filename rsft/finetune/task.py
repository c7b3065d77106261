"""The Lightning task: inner steps on theta, and every K of them one outer step on gamma."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from rsft.chips.dataset import AugmentedChips, Batches, ChipImages
from rsft.classifier import Classifier
from rsft.errors import RsftError
from rsft.finetune.bilevel import Batch, BiLevel
from rsft.finetune.losses import Loss
from rsft.finetune.rounds import MetaRounds
from rsft.imagery.augment import Augmentation
from rsft.metrics.accuracy import summarise
from rsft.recipe.schema import Meta, Recipe

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
        self.loops: BiLevel | None = None  # once there are optimisers
        self.theta = classifier.theta
        self.gamma = classifier.adapted.gamma
        self.learning_rate = recipe.train.lr * math.sqrt(recipe.train.batch_size / 128)
        self.steps = 0
        self._validation = dict.fromkeys(("val_loss", *(f"val_{name}" for name in MEASURES)), math.nan)
        self._inner_losses: list[Tensor] = []
        self._outer_losses: list[Tensor] = []
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """SGD on theta; Adam on gamma alone, whose weight decay `Modulator.pull` replaces."""
        train = self.recipe.train
        inner = torch.optim.SGD(
            self.theta, lr=self.learning_rate, momentum=train.momentum, weight_decay=train.weight_decay
        )
        if self.recipe.meta is None:
            return [inner]
        return [inner, torch.optim.Adam(self.gamma, lr=self.recipe.meta.lr)]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """One inner step, and the outer step where one is due."""
        if self.loops is None:
            self.loops = self._loops()
        for group in self.loops.inner.param_groups:
            group["lr"] = self.learning_rate * self._rate(batch_idx)
        try:
            loss, outer_loss = self.loops.step(batch, self._outer_batch(batch_idx))
        except RsftError as error:
            raise RsftError(error.what, f"epoch {self.current_epoch + 1}, batch {batch_idx}", error.fix) from error
        self.steps += 1
        self._inner_losses.append(loss)
        if outer_loss is not None:
            self._outer_losses.append(outer_loss)
        return loss

    def _loops(self) -> BiLevel:
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
        )

    def _outer_batch(self, batch_idx: int) -> Batch | None:
        """Chips of the meta subset, where an outer step is due."""
        if self.rounds is None or not self._outer_is_due(batch_idx):
            return None
        epoch = self.current_epoch
        chosen = self.rounds.batch(epoch, batch_idx)
        if isinstance(self.chips, ChipImages) and self.augmentation.changes:
            view = AugmentedChips(self.chips, self.augmentation, self.recipe.seed, epoch)
            inputs, labels = self.chips.batch(chosen, augment=view.image)
        else:
            inputs, labels = self.chips.batch(chosen)
        return inputs.to(self.device), labels.to(self.device)

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
        """Share of the learning rate at this step: linear warm-up, then cosine to 0."""
        train, position = self.recipe.train, self._position(batch_idx)
        if position < train.warmup_epochs:
            return (position + 1 / max(1, int(self.trainer.num_training_batches))) / (train.warmup_epochs + 1)
        done = (position - train.warmup_epochs) / max(1e-9, train.epochs - train.warmup_epochs)
        return 0.5 * (1 + math.cos(math.pi * done))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Collect logits; the numbers are made at the end of the epoch."""
        inputs, labels = batch
        self._outputs.append((self.classifier(inputs).float(), labels))

    def on_validation_epoch_end(self) -> None:
        """Sum up the validation split."""
        logits, labels = (torch.cat(parts) for parts in zip(*self._outputs, strict=True))
        self._outputs.clear()
        predicted, truth = logits.argmax(1).cpu().numpy(), labels.cpu().numpy()
        summary = summarise(predicted, truth, logits.shape[1], self.groups, resamples=1)
        self._validation = {"val_loss": float(self.loss(logits, labels))}
        for name in MEASURES:
            interval = getattr(summary, name)
            self._validation[f"val_{name}"] = interval.value if interval else math.nan
        self.log("val_macro", self._validation["val_macro"])  # for early stopping

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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is learned; the frozen backbone is known by its hash."""
        checkpoint["state_dict"] = self.classifier.learned_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back what `on_save_checkpoint` kept."""
        self.classifier.load_learned_state(checkpoint["state_dict"])
        checkpoint["state_dict"] = self.state_dict()


def _mean(losses: list[Tensor]) -> float:
    return float(np.mean([loss.item() for loss in losses])) if losses else math.nan
