"""Samplers: select and order the training chips of an epoch, or outer batch.

The `exponent` q of a sampler says how it draws: a class of n chips has a probability
proportional to n^q, with q = 1 if it has none. Losses that use the class prior use that
of the draws (`rsft.training.optim.losses`). `shard_batches` gives each of several
processes its chips of a batch.
"""

from typing import ClassVar

import numpy as np

from rsft.recipe.registries import SAMPLERS
from rsft.types import Indices


@SAMPLERS.register
class NaturalSampler:
    """Every chip once per epoch, in random order."""

    name: ClassVar[str] = "natural"
    title: ClassVar[str] = "every chip once"

    def draw(
        self, labels: Indices, members: Indices, size: int, rng: np.random.Generator
    ) -> Indices:
        """Return the first `size` chips of a permutation of `members` (M,)."""
        return rng.permutation(members)[:size]


class _FrequencySampler:
    """Draws with replacement, by the size of the class.

    A class of n members has a probability proportional to n^exponent.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    exponent: ClassVar[float]

    def draw(
        self, labels: Indices, members: Indices, size: int, rng: np.random.Generator
    ) -> Indices:
        """Return `size` chips of `members` (M,), drawn with replacement.

        Classes are drawn by their frequency.
        """
        member_labels = labels[members]
        # of one chip of the class
        weights = np.bincount(member_labels)[member_labels] ** (self.exponent - 1)
        return rng.choice(members, size, p=weights / weights.sum())


@SAMPLERS.register
class ClassBalancedSampler(_FrequencySampler):
    """Every class with the same probability.

    Source: Kang et al. 2020, equation 1 at q = 0, https://arxiv.org/abs/1910.09217.
    """

    name = "class-balanced"
    title = "drawn with classes alike"
    exponent = 0.0


@SAMPLERS.register
class SquareRootSampler(_FrequencySampler):
    """A class of n members with a probability proportional to sqrt(n).

    Source: Kang et al. 2020, equation 1 at q = 1/2.
    """

    name = "square-root"
    title = "drawn by the root of class frequency"
    exponent = 0.5


@SAMPLERS.register
class RandomSampler:
    """Uniform draws without replacement, which keep the long tail."""

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "drawn at random"

    def draw(
        self, labels: Indices, members: Indices, size: int, rng: np.random.Generator
    ) -> Indices:
        """Return `size` different chips of `members` (M,)."""
        return rng.choice(
            members, size, replace=False, p=np.full(len(members), 1 / len(members))
        )


@SAMPLERS.register
class TailHeavySampler(_FrequencySampler):
    """A class of n members with a probability proportional to 1 / n."""

    name = "tail-heavy"
    title = "drawn by the inverse of class frequency"
    exponent = -1.0


ProcessShard = tuple[int, int]
"""Rank of a process, and the number of processes (world size)."""

SINGLE_PROCESS: ProcessShard = (0, 1)


def shard_batches(
    indices: Indices, batch_size: int, shard: ProcessShard = SINGLE_PROCESS
) -> list[Indices]:
    """Cut `indices` into batches, and return one process's part of each.

    Process r of n takes the chips r, r + n, r + 2n ... of a batch. If the last batch
    has fewer chips than processes, the others take its first chip with weight 0
    (`shard_loss_weight`).

    Args:
        indices: order of the chips, over all processes.
        batch_size: chips per batch, over all processes.
        shard: rank and number of processes.

    Returns:
        Indices of this process, batch by batch.
    """
    rank, world_size = shard
    batches = [
        indices[start : start + batch_size]
        for start in range(0, len(indices), batch_size)
    ]
    return [
        batch[rank::world_size] if rank < len(batch) else batch[:1] for batch in batches
    ]


def shard_loss_weight(size: int, shard: ProcessShard) -> float:
    """Return the weight of a process's mean loss.

    With it, the mean of the weighted losses over all processes is the mean loss over
    all chips of the batch.
    """
    rank, world_size = shard
    return len(range(rank, size, world_size)) * world_size / max(size, 1)
