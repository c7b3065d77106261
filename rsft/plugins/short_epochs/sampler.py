"""A sampler of short epochs, for runs that are measured in steps."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rsft.types import Indices

CHIPS = 128
"""Chips of an epoch."""


@dataclass(frozen=True)
class ShortEpochSampler:
    """At most 128 different chips per epoch.

    A run of N epochs has the same steps on every data set with at least 128 chips, and
    can end within a pass over the chips.
    """

    name: ClassVar = "random-128"
    title: ClassVar = "128 chips per epoch, drawn at random"

    def draw(
        self, labels: Indices, members: Indices, size: int, rng: np.random.Generator
    ) -> Indices:
        """Return at most `size` and 128 different chips of `members` (M,)."""
        return rng.permutation(members)[: min(size, CHIPS)]
