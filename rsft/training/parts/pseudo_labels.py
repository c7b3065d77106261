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
        self.classes = setup.store.classes
        self.section = recipe.semi or SemiSection()
        self.average: WeightAverage | None = None
        for part in context.parts:
            if self.section.teacher == "ema" and isinstance(part, WeightAverage):
                self.average = part
        self.epochs_of_fit = max(1, recipe.train.epochs // _REFRESHES)
        self.pool = pool
        self.train = batches.train
        self.val = batches.val
        self.batches = batches
        contract = pool.contract
        strong = Augmentation(
            recipe.data.augment, len(contract.planes), contract.size, strong=True
        )
        self.augmentations = batches.augmentation, strong
        self.size = batches.batch_size * self.section.ratio
        self.loss_weight = shard_loss_weight(self.size, batches.shard)
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
        """Name the classes of which hardly a chip has a pseudo-label.

        Unlabeled chips teach the other classes, perhaps at their cost.
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
        section = self.section
        if progress < section.start:
            return None
        shard = self.batches.shard
        rng = np.random.default_rng((self.batches.seed, epoch, 4, index))
        drawn = rng.integers(0, len(self.pool) + len(self.train), self.size)
        positions = shard_batches(np.arange(self.size), self.size, shard)[0]
        with torch.no_grad():
            is_due = index == 0 and epoch % self.epochs_of_fit == 0
            if section.foreign and (is_due or self.distance is None):
                self._fit_distance()
            inputs = self._load(drawn, positions, epoch, index, strong=False)
            with self._teacher() as teacher:
                logits, features = teacher.predict(inputs)
            probabilities = logits.float().softmax(1)
            if section.align != "none":
                probabilities = self._align(probabilities)
            confidence, labels = probabilities.max(1)
            is_foreign = self._is_foreign(features)
            is_used = (confidence >= section.threshold) & ~is_foreign
        self._count(labels[is_used], is_foreign)
        if not is_used.any():
            return None
        used = positions[is_used.cpu().numpy()]
        inputs = self._load(drawn, used, epoch, index, strong=True)
        factor = section.weight * self.loss_weight / len(positions)
        return PseudoBatch(inputs, labels[is_used], factor, self._mean_loss())

    def _align(self, probabilities: Tensor) -> Tensor:
        """Return probabilities (K, C) whose mean over the steps is the target."""
        # of the chips of this process
        mean = all_reduce_mean(probabilities.mean(0) * self.loss_weight)
        self.mean_probabilities = (
            _MOMENTUM * self.mean_probabilities + (1 - _MOMENTUM) * mean
        )
        aligned = probabilities * (self.target / self.mean_probabilities)
        return aligned / aligned.sum(1, keepdim=True)

    def _mean_loss(self) -> LossFunction:
        """Return the loss of the recipe, if it only adjusts logits to the prior."""
        if not getattr(self.loss, "adjusts_logits", False):
            return F.cross_entropy
        return self.loss.make(self.class_counts, self.shares.clamp_min(_MIN_SHARE))

    def _count(self, used: Tensor, is_foreign: Tensor) -> None:
        """Count the chips of a step over all processes, and update the shares."""
        of_classes = torch.bincount(used, minlength=len(self.shares))
        others = torch.stack([is_foreign.sum(), torch.tensor(len(is_foreign))])
        counts = torch.cat([of_classes.cpu(), others.cpu()])
        # else this process repeats a chip of another
        is_counted = self.loss_weight > 0
        mean = all_reduce_mean(is_counted * counts.double().to(self.device))
        counted = (mean * self.batches.shard[1]).round().long().cpu()
        self.counts += counted
        of_classes = counted[:-2]
        if of_classes.any():
            shares = of_classes / of_classes.sum()
            self.shares = _MOMENTUM * self.shares + (1 - _MOMENTUM) * shares

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
            number = int(drawn[position])
            chips = self.pool
            if number >= len(self.pool):
                number -= len(self.pool)
                chips = self.train
            read = chips.full_size_image if augmentation.resizes else chips.image
            entropy = (self.batches.seed, epoch, index, 5 + strong, position)
            seed = np.random.SeedSequence(entropy).generate_state(1)[0]
            images.append(augmentation(read(number), int(seed)))
        return copy_to_device(ByteImages.stack(images, self.pool.contract), self.device)

    @contextmanager
    def _teacher(self) -> Iterator[Classifier]:
        """Give the classifier the weights of the teacher, in evaluation mode."""
        is_training = self.classifier.training
        with self.average.use_weights() if self.average else nullcontext():
            yield self.classifier.eval()
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
        count = min(_MAX_CHIPS * len(per_class), len(self.val))
        others = np.linspace(0, len(self.val) - 1, count).astype(int)
        known = self._final_features(self.train, chips)
        new = self._final_features(self.val, others)
        features = known.cpu().numpy()
        _, whitening = fit_distance(features, labels[chips], len(self.target))
        white = torch.from_numpy(whiten_references(features, whitening))
        white_chips = white.float().to(self.device)
        matrix = torch.from_numpy(whitening).float().to(self.device)
        distances = nearest_distance(new @ matrix, white_chips).cpu().numpy()
        limit = ood_limit(distances, self.section.foreign)
        self.distance = white_chips, matrix, limit

    def _final_features(self, chips: ChipImages, indices: Indices) -> Tensor:
        """Return the teacher's features (M, D) of some chips, in float32."""
        size = self.batches.eval_batch_size
        with self._teacher() as teacher:
            inputs = compute_features(teacher, chips, indices, size)
            return teacher.final_features(inputs).float()

    def _is_foreign(self, features: Tensor) -> Tensor:
        if not self.distance:
            return torch.zeros(len(features), dtype=torch.bool, device=features.device)
        white_chips, whitening, limit = self.distance
        distances: Tensor = nearest_distance(features.float() @ whitening, white_chips)
        return distances > limit

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
