"""Which chips each of the two loops of MetaPEFT sees."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from rsft.types import Indices

Sampling = Literal["random", "class-balanced", "tail-heavy"]


class MetaRounds:
    """The meta subset, drawn anew every round, and its batches.

    Everything is a function of (seed, epoch, batch number), so that a run can go on from any point.

    Args:
        labels: class of every training chip (N,).
        ratio: share of each class in the meta subset; every class with two chips or more is on both sides.
        holdout: the inner loop of the round does not see the meta subset.
        sampling: how batches are drawn from the subset: "random" keeps the long tail, "class-balanced" draws classes
            alike, "tail-heavy" draws them by the inverse of their frequency.
        length: epochs of a round.
    """

    def __init__(
        self,
        labels: Indices,
        *,
        ratio: float,
        holdout: bool,
        sampling: Sampling,
        batch_size: int,
        seed: int,
        length: int = 1,
    ) -> None:
        self.labels, self.ratio, self.holdout, self.seed = labels, ratio, holdout, seed
        self.sampling, self.batch_size, self.length = sampling, batch_size, length
        self._drawn = lru_cache(maxsize=1)(self._draw)

    def subset(self, epoch: int) -> Indices:
        """The meta subset of the round that `epoch` is in, stratified by class."""
        return self._drawn(epoch // self.length)

    def _draw(self, number: int) -> Indices:
        rng = np.random.default_rng((self.seed, number, 1))
        chosen = []
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels == label)
            size = min(max(1, round(self.ratio * len(members))), max(1, len(members) - 1))
            if len(members) > 1 or not self.holdout:
                chosen.append(rng.permutation(members)[:size])
        return np.sort(np.concatenate(chosen))

    def inner(self, epoch: int) -> Indices:
        """The chips that the inner loop may use in `epoch`."""
        everything = np.arange(len(self.labels))
        return np.setdiff1d(everything, self.subset(epoch)) if self.holdout else everything

    def batch(self, epoch: int, count: int) -> Indices:
        """The meta batch number `count` of `epoch`; a chip comes twice only where classes are not drawn as they are."""
        subset = self.subset(epoch)
        labels = self.labels[subset]
        frequency = np.bincount(labels)[labels]
        power = {"random": 0.0, "class-balanced": 1.0, "tail-heavy": 2.0}[self.sampling]
        weights = frequency**-power
        rng = np.random.default_rng((self.seed, epoch, 2, count))
        size = min(self.batch_size, len(subset))
        return rng.choice(subset, size, replace=self.sampling != "random", p=weights / weights.sum())
