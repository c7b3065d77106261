"""The modulator of MetaPEFT: one non-negative scale a site (paper, equation 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.sites import POSITIONS, Site


class Modulator(nn.Module):
    """m = softplus(gamma), one scalar a site, shared by training, evaluation and merging.

    Args:
        sites: the adapted sites, in forward order.
        start: m at the beginning, for every site; 1 makes MetaPEFT start as plain PEFT.
    """

    gamma: nn.Parameter  # (sites,) float32

    def __init__(self, sites: Sequence[Site], start: float = 1.0) -> None:
        super().__init__()
        if start <= 0:
            raise ValueError(f"start {start}: softplus is above 0, so must be the start")
        self.sites = tuple(sites)
        self.start = math.log(math.expm1(start))  # softplus^-1
        self.gamma = nn.Parameter(torch.full((len(self.sites),), self.start))

    def scale(self, index: int) -> Tensor:
        """m of the site number `index`, a scalar tensor."""
        return F.softplus(self.gamma[index])

    def values(self) -> dict[Site, float]:
        """m of every site."""
        return dict(zip(self.sites, F.softplus(self.gamma.detach()).tolist(), strict=True))

    def table(self, depth: int) -> Tensor:
        """m as (depth, 6 positions), NaN where there is no site."""
        table = torch.full((depth, len(POSITIONS)), math.nan)
        for (block, position), value in self.values().items():
            table[block, POSITIONS.index(position)] = value
        return table

    def pull(self, weight_decay: float) -> None:
        """Add to gamma's gradient an L2 pull toward the start; toward 0 it would mean m = 0.69."""
        if self.gamma.grad is not None:
            self.gamma.grad.add_(self.gamma.detach() - self.start, alpha=weight_decay)
