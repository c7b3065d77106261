"""Mixing of pairs of chips (Zhang et al. 2018, https://arxiv.org/abs/1710.09412)."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch

from rsft.data.loading.batches import EpochBatches
from rsft.training.objective import Mixing, Objective
from rsft.training.parts.base import Moment, Part, PartContext


@dataclass
class Mixup(Part):
    """Mixes the chips of half of the batches.

    Attributes:
        alpha: both parameters of the Beta distribution of the shares.
        batches: the training chips.
        device: device of the classifier.
    """

    name: ClassVar = "mixup"
    title: ClassVar = "mixing of pairs of chips"

    alpha: float
    batches: EpochBatches
    device: torch.device

    @classmethod
    def make(cls, context: PartContext) -> Self | None:
        """Return the mixing of `train.mixup`."""
        alpha = context.setup.recipe.train.mixup
        if alpha is None:
            return None
        device = context.setup.classifier.theta[0].device
        return cls(alpha, context.batches, device)

    def prepare(self, moment: Moment, objective: Objective) -> Objective:
        """Draw the share and the partners of a batch of this process."""
        epoch, index, _ = moment
        rng = np.random.default_rng((self.batches.seed, epoch, 7, index))
        if rng.random() < 0.5:
            return objective
        share = float(rng.beta(self.alpha, self.alpha))
        rank, world_size = self.batches.shard
        chips = len(self.batches.batch_indices(epoch, index))
        size = max(1, len(range(rank, chips, world_size)))
        order = torch.from_numpy(rng.permutation(size)).to(self.device)
        return replace(objective, mixing=Mixing(share, order))
