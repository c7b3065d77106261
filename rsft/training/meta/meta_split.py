"""The split of the training chips between the two loops of MetaPEFT."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from rsft.recipe.registries import SAMPLERS
from rsft.recipe.schema import MetaSection, TrainSection
from rsft.types import Indices


class MetaSplitter:
    """Sampler of the meta subset, which changes every `resplit_every` epochs, and of its batches.

    Every result is a function of (seed, epoch, batch number), so a run can be resumed at any step.

    Args:
        labels: class of every training chip (N,).
        meta: the section `meta` of the recipe. `ratio` is the share of each class in the meta subset; a class of two
            chips or more always has chips inside and outside of it. The sampler "random" keeps the long tail,
            "class-balanced" gives classes equal probabilities, "tail-heavy" the inverse of their frequency.
        batch_size: chips in a meta batch, see `outer_batch_size`.
        seed: the seed of the recipe.
    """

    def __init__(self, labels: Indices, meta: MetaSection, batch_size: int, seed: int) -> None:
        self.labels, self.meta, self.batch_size, self.seed = labels, meta, batch_size, seed
        self._cached_split = lru_cache(maxsize=1)(self._split)

    def meta_subset(self, epoch: int) -> Indices:
        """Return the meta subset of an epoch, stratified by class.

        Args:
            epoch: number of the epoch from 0.

        Returns:
            Sorted indices of training chips (M,).
        """
        return self._cached_split(epoch // self.meta.resplit_every)

    def inner_subset(self, epoch: int) -> Indices:
        """Return the chips that the inner loop may use in an epoch.

        Args:
            epoch: number of the epoch from 0.

        Returns:
            Sorted indices of training chips (K,).
        """
        all_chips = np.arange(len(self.labels))
        return np.setdiff1d(all_chips, self.meta_subset(epoch)) if self.meta.holdout else all_chips

    def meta_batch(self, epoch: int, index: int) -> Indices:
        """Draw a meta batch. Samplers other than "random" may draw a chip twice.

        Args:
            epoch: number of the epoch from 0.
            index: number of the inner step in the epoch from 0.

        Returns:
            Indices of at most `batch_size` training chips (B,).
        """
        subset = self.meta_subset(epoch)
        rng = np.random.default_rng((self.seed, epoch, 2, index))
        size = min(self.batch_size, len(subset))
        return SAMPLERS[self.meta.sampling]().draw(self.labels, subset, size, rng)

    def _split(self, number: int) -> Indices:
        rng = np.random.default_rng((self.seed, number, 1))
        subsets = []
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels == label)
            size = min(max(1, round(self.meta.ratio * len(members))), max(1, len(members) - 1))
            if len(members) > 1 or not self.meta.holdout:
                subsets.append(rng.permutation(members)[:size])
        return np.sort(np.concatenate(subsets))


def outer_batch_size(meta: MetaSection, train: TrainSection) -> int:
    """Return the number of chips in an outer step.

    It is `meta.batch_size` if that is set, else `train.batch_size`. With the joint schedule the default is the number
    with which an epoch uses each chip of the meta subset about once.

    Args:
        meta: the section `meta` of the recipe.
        train: the section `train` of the recipe.
    """
    if meta.batch_size is not None or meta.schedule == "alternating":
        return meta.batch_size or train.batch_size
    inner_share = 1 - meta.ratio if meta.holdout else 1.0
    inner_chips = train.batch_size * train.accumulate_grad_batches * meta.outer_every
    return max(1, round(inner_chips * meta.ratio / inner_share))
