"""The sampler of runs that are measured in steps, not in passes over the training chips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rsft.recipe.registries import SAMPLERS
from rsft.types import Indices

CHIPS = 128


@SAMPLERS.register
@dataclass(frozen=True)
class ShortEpochSampler:
    """128 different chips per epoch, drawn at random: four batches of 32.

    A run of N such epochs has the same number of steps on every data set, and can end
    within a pass over the chips.
    """

    name: ClassVar[str] = "random-128"
    title: ClassVar[str] = "128 chips drawn at random"

    def draw(
        self, labels: Indices, members: Indices, size: int, rng: np.random.Generator
    ) -> Indices:
        """Return at most 128 different chips of `members` (M,)."""
        return rng.permutation(members)[:CHIPS]
