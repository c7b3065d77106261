"""The two loops of MetaPEFT: which chips each one sees, and which parameters each one moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

Indices = NDArray[np.int64]
Sampling = Literal["random", "class-balanced", "tail-heavy"]


class MetaRounds:
    """The meta subset, drawn anew every round (one epoch), and its batches.

    Everything is a function of (seed, round, batch number), so that a run can go on from any point.

    Args:
        labels: class of every training chip (N,).
        ratio: share of each class in the meta subset; every class with two chips or more is on both sides.
        holdout: the inner loop of the round does not see the meta subset.
        sampling: how batches are drawn from the subset: "random" keeps the long tail, "class-balanced" draws classes
            alike, "tail-heavy" draws them by the inverse of their frequency.
    """

    def __init__(
        self, labels: Indices, *, ratio: float, holdout: bool, sampling: Sampling, batch_size: int, seed: int
    ) -> None:
        self.labels, self.ratio, self.holdout, self.seed = labels, ratio, holdout, seed
        self.sampling, self.batch_size = sampling, batch_size
        self.subset = lru_cache(maxsize=1)(self._draw)

    def _draw(self, number: int) -> Indices:
        """The meta subset of round `number`, stratified by class."""
        rng = np.random.default_rng((self.seed, number, 1))
        chosen = []
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels == label)
            size = min(max(1, round(self.ratio * len(members))), max(1, len(members) - 1))
            if len(members) > 1 or not self.holdout:
                chosen.append(rng.permutation(members)[:size])
        return np.sort(np.concatenate(chosen))

    def inner(self, number: int) -> Indices:
        """The chips that the inner loop of round `number` may use."""
        everything = np.arange(len(self.labels))
        return np.setdiff1d(everything, self.subset(number)) if self.holdout else everything

    def batch(self, number: int, count: int) -> Indices:
        """The meta batch number `count` of round `number`, without repetition unless the subset is smaller."""
        subset = self.subset(number)
        labels = self.labels[subset]
        frequency = np.bincount(labels)[labels]
        power = {"random": 0.0, "class-balanced": 1.0, "tail-heavy": 2.0}[self.sampling]
        weights = frequency**-power
        rng = np.random.default_rng((self.seed, number, 2, count))
        size = min(self.batch_size, len(subset))
        return rng.choice(subset, size, replace=self.sampling != "random", p=weights / weights.sum())


@contextmanager
def only(trained: Sequence[nn.Parameter], frozen: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within the block `trained` take gradients and `frozen` do not."""
    for parameter in frozen:
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
