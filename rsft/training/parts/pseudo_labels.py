"""Pseudo-labels of unlabeled chips (FixMatch).

Sources: Sohn et al. 2020, https://arxiv.org/abs/2001.07685; the alignment of
probabilities is that of Berthelot et al. 2020, section 3.1,
https://arxiv.org/abs/1911.09785. If the recipe's loss adjusts logits to the prior of
the labeled chips, that of unlabeled chips adjusts them to the shares of the
pseudo-labels, which have a long tail, too: plain cross entropy would learn it. Chips
that are far from all classes get no pseudo-label, because an archive also contains what
no class is.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rsft.data.chips.class_names import list_first_names
from rsft.data.imagery.augmentation import Augmentation
from rsft.data.loading.batches import ChipImages
from rsft.data.loading.byte_images import ByteImages
from rsft.data.loading.samplers import shard_batches, shard_loss_weight
from rsft.errors import RequestError
from rsft.models.classifier import Classifier
from rsft.models.devices import copy_to_device
from rsft.models.uncertainty.distances import (
    fit_distance,
    nearest_distance,
    ood_limit,
    whiten_references,
)
from rsft.recipe.registries import LossConfig, LossFunction
from rsft.recipe.schema import Recipe, SemiSection
from rsft.training.init.frozen_features import compute_features
from rsft.training.objective import Objective
from rsft.training.parts.average import WeightAverage
from rsft.training.parts.base import Moment, Part, PartContext, StateDict
from rsft.training.processes import all_reduce_mean, is_rank_zero
from rsft.training.runs.writer import Run
from rsft.types import Indices, JsonObject

_log = logging.getLogger(__name__)


class PseudoBatch(NamedTuple):
    """Strongly augmented chips with pseudo-labels.

    Attributes:
        inputs: network inputs (K, P, S, S).
        labels: class indices (K,).
        factor: factor of the sum of their losses.
        mean_loss: the mean loss of logits (K, C) and labels (K,).
    """

    inputs: Tensor
    labels: Tensor
    factor: float
    mean_loss: LossFunction = F.cross_entropy

    def loss(self, logits: Tensor) -> Tensor:
        """Return the weighted loss of logits (K, C), a scalar."""
        return (
            self.factor * len(self.labels) * self.mean_loss(logits.float(), self.labels)
        )


_MOMENTUM = 0.98
"""Of the mean probabilities of unlabeled chips, to which probabilities are aligned."""

_MIN_SHARE = 1e-4
"""Of a class among the pseudo-labels; its logarithm is finite."""

_FEW = 0.1
"""A class has few pseudo-labels if its share of them is below this part of its mean
probability."""

_REFRESHES = 50
"""How often the distance from the classes is fitted anew in a run. Features move: with
ten times, 20 to 99 % of a pool without foreign chips were foreign in between."""

_MAX_CHIPS = 50
"""Chips per class to which it is fitted."""


class PseudoLabeler(Part):
    """Gives unlabeled chips pseudo-labels, batch by batch.

    Attributes:
        shares: mean share of each class among the pseudo-labels (C,).
        counts: chips of this epoch so far, over all processes: with a pseudo-label of
            each class (C,), foreign, and all.
    """

    name: ClassVar = "labeler"
    title: ClassVar = "pseudo-labels"

    def __init__(self, context: PartContext, pool: ChipImages) -> None:
        setup = context.setup
        recipe = setup.recipe
        batches = context.batches
        assert isinstance(batches.train, ChipImages)
        assert isinstance(batches.val, ChipImages)
        self.classifier = setup.classifier
        self.section = recipe.semi or SemiSection()
        self.average: WeightAverage | None = None
        for part in context.parts:
            if self.section.teacher == "ema" and isinstance(part, WeightAverage):
                self.average = part
        self.classes = setup.store.classes
        self.epochs = recipe.train.epochs
        self.pool = pool
        self.train = batches.train
        self.val = batches.val
        contract = pool.contract
        strong = Augmentation(
            recipe.data.augment, len(contract.planes), contract.size, strong=True
        )
        self.augmentations = batches.augmentation, strong
        self.size = batches.batch_size * self.section.ratio
        self.eval_batch_size = batches.eval_batch_size
        self.seed = batches.seed
        self.shard = batches.shard
        self.device = self.classifier.theta[0].device
        self.loss: LossConfig = recipe.loss.build()
        self.class_counts = context.class_counts
        counts = self.class_counts.float()
        self.shares = counts / counts.sum()
        target = torch.ones_like(counts)
        if self.section.align == "labels":
            target = counts
        self.target = (target / target.sum()).to(self.device)
        self.mean_probabilities = self.target.clone()
        # training chips in the whitened space, whitening, limit
        self.distance: tuple[Tensor, Tensor, float] | None = None
        self.counts = torch.zeros(len(counts) + 2, dtype=torch.int64)

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise an error if keys on unlabeled chips contradict each other.

        Raises:
            RequestError: a section `semi` without chips, or chips without augmentation.
        """
        if recipe.semi and recipe.data.unlabeled is None:
            raise RequestError(
                "the section semi needs unlabeled chips",
                "data.unlabeled",
                "name a folder of chips",
            )
        if recipe.data.unlabeled is not None and recipe.data.augment == "none":
            raise RequestError(
                "pseudo-labels are learned from changed images",
                "data.augment",
                "set data.augment=sar or data.augment=optical",
            )

    @classmethod
    def make(cls, context: PartContext) -> Self | None:
        """Return what labels the chips of `data.unlabeled`."""
        pool = context.setup.pool
        return cls(context, pool.chips) if pool else None

    def prepare(self, moment: Moment, objective: Objective) -> Objective:
        """Add the chips of a step that have a pseudo-label."""
        return replace(objective, extra=self.batch(*moment))

    def end_epoch(self, run: Run, epoch: int) -> None:
        """Write the counts of an epoch, and count from 0."""
        run.add_pseudo_labels(epoch, self.counts.tolist())
        self.counts.zero_()

    def finish(self) -> JsonObject:
        """Name the classes for which the pool has hardly taught anything.

        Those that it has taught can gain at their cost.
        """
        is_few = self.shares < _FEW * self.mean_probabilities.cpu()
        names = [name for name, x in zip(self.classes, is_few, strict=True) if x]
        if names and is_rank_zero():
            _log.warning(
                "hardly an unlabeled chip has a pseudo-label of %s, so that unlabeled"
                " chips may cost these classes accuracy; `rsft finetune STORE"
                " data.unlabeled=CHIPS` compares with and without them",
                list_first_names(names),
            )
        return {"classes_without_pseudo_labels": names}

    def batch(self, epoch: int, index: int, progress: float) -> PseudoBatch | None:
        """Return the chips of a step with a pseudo-label; None before `semi.start`.

        Args:
            epoch: number of the epoch from 0.
            index: number of the batch in its epoch from 0.
            progress: finished share of training.
        """
        if progress < self.section.start:
            return None
        rng = np.random.default_rng((self.seed, epoch, 4, index))
        drawn = rng.integers(0, len(self.pool) + len(self.train), self.size)
        positions = shard_batches(np.arange(self.size), self.size, self.shard)[0]
        with torch.no_grad():
            is_due = index == 0 and epoch % max(1, self.epochs // _REFRESHES) == 0
            if self.section.foreign and (is_due or self.distance is None):
                self._fit_distance()
            inputs = self._load(drawn, positions, epoch, index, strong=False)
            with self._teacher() as teacher:
                logits, features = teacher.predict(inputs)
            probabilities = logits.float().softmax(1)
            if self.section.align != "none":
                # of the chips of this process
                share = shard_loss_weight(self.size, self.shard)
                mean = all_reduce_mean(probabilities.mean(0) * share)
                self.mean_probabilities = (
                    _MOMENTUM * self.mean_probabilities + (1 - _MOMENTUM) * mean
                )
                probabilities = probabilities * (self.target / self.mean_probabilities)
                probabilities = probabilities / probabilities.sum(1, keepdim=True)
            confidence, labels = probabilities.max(1)
            is_foreign = self._is_foreign(features)
            is_used = (confidence >= self.section.threshold) & ~is_foreign
        self._count(labels[is_used], is_foreign)
        if not is_used.any():
            return None
        inputs = self._load(
            drawn, positions[is_used.cpu().numpy()], epoch, index, strong=True
        )
        factor = (
            self.section.weight
            * shard_loss_weight(self.size, self.shard)
            / len(positions)
        )
        return PseudoBatch(inputs, labels[is_used], factor, self._mean_loss())

    def _mean_loss(self) -> LossFunction:
        """Return the loss of the recipe, if it only adjusts logits to the prior."""
        if not getattr(self.loss, "adjusts_logits", False):
            return F.cross_entropy
        return self.loss.make(self.class_counts, self.shares.clamp_min(_MIN_SHARE))

    def _count(self, used: Tensor, is_foreign: Tensor) -> None:
        """Count the chips of a step over all processes, and update the shares."""
        classes = len(self.counts) - 2
        counts = [
            *torch.bincount(used, minlength=classes).tolist(),
            int(is_foreign.sum()),
            len(is_foreign),
        ]
        # else this process repeats a chip of another
        is_counted = shard_loss_weight(self.size, self.shard) > 0
        mean = all_reduce_mean(
            is_counted * torch.tensor(counts, dtype=torch.float64, device=self.device)
        )
        counted = (mean * self.shard[1]).round().long().cpu()
        self.counts += counted
        sum_used = counted[:classes].sum()
        if sum_used > 0:
            self.shares = (
                _MOMENTUM * self.shares + (1 - _MOMENTUM) * counted[:classes] / sum_used
            )

    def _load(
        self,
        drawn: Indices,
        positions: Indices,
        epoch: int,
        index: int,
        *,
        strong: bool,
    ) -> Tensor:
        """Return network inputs of some chips of a batch.

        Args:
            drawn: the chips of all processes: numbers of the pool, then those of the
                training chips after them.
            positions: positions of the requested chips in `drawn` (K,); they decide
                about the augmentation.
            epoch: number of the epoch from 0.
            index: number of the batch in its epoch from 0.
            strong: whether to use the augmentation of chips with a pseudo-label.
        """
        augmentation = self.augmentations[strong]
        images = []
        for position in positions.tolist():  # a chip may be drawn twice
            chip = int(drawn[position])
            source, number = (
                (self.pool, chip)
                if chip < len(self.pool)
                else (self.train, chip - len(self.pool))
            )
            if augmentation.resizes:
                image = source.full_size_image(number)
            else:
                image = source.image(number)
            entropy = (self.seed, epoch, index, 5 + strong, position)
            images.append(
                augmentation(
                    image, int(np.random.SeedSequence(entropy).generate_state(1)[0])
                )
            )
        return copy_to_device(ByteImages.stack(images, self.pool.contract), self.device)

    @contextmanager
    def _teacher(self) -> Iterator[Classifier]:
        """Give the classifier the weights of the teacher, in evaluation mode."""
        is_training = self.classifier.training
        with self.average.use_weights() if self.average else nullcontext():
            self.classifier.eval()
            yield self.classifier
        self.classifier.train(is_training)

    def _fit_distance(self) -> None:
        """Fit the distance to training chips, and its limit to validation chips.

        Training chips are closer to their classes than new chips, so they cannot give
        the limit.
        """
        labels = self.train.labels
        per_class = [
            np.flatnonzero(labels == label)[:_MAX_CHIPS] for label in np.unique(labels)
        ]
        chips = np.concatenate(per_class)
        others = np.linspace(
            0, len(self.val) - 1, min(_MAX_CHIPS * len(per_class), len(self.val))
        ).astype(int)
        with self._teacher() as teacher:
            compute = partial(
                compute_features, teacher, batch_size=self.eval_batch_size
            )
            known = teacher.final_features(compute(self.train, chips))
            new = teacher.final_features(compute(self.val, others))
        features = known.float().cpu().numpy()
        _, whitening = fit_distance(features, labels[chips], len(self.target))
        white_chips = torch.from_numpy(whiten_references(features, whitening))
        white_chips = white_chips.float().to(self.device)
        matrix = torch.from_numpy(whitening).float().to(self.device)
        distances = nearest_distance(new.float() @ matrix, white_chips)
        self.distance = (
            white_chips,
            matrix,
            ood_limit(distances.cpu().numpy(), self.section.foreign),
        )

    def _is_foreign(self, features: Tensor) -> Tensor:
        if not self.distance:
            return torch.zeros(len(features), dtype=torch.bool, device=features.device)
        white_chips, whitening, limit = self.distance
        return torch.as_tensor(
            nearest_distance(features.float() @ whitening, white_chips) > limit
        )

    def state_dict(self) -> StateDict:
        """Return the state for a checkpoint."""
        return {
            "mean": self.mean_probabilities,
            "shares": self.shares,
            "distance": self.distance,
            "counts": self.counts,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the state of a checkpoint."""
        self.mean_probabilities = state["mean"].to(self.device)
        self.shares = state["shares"]
        self.counts = state["counts"]
        if state["distance"] is not None:
            white_chips, whitening, limit = state["distance"]
            self.distance = (
                white_chips.to(self.device),
                whitening.to(self.device),
                limit,
            )
