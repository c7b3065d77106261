"""The modulator of MetaPEFT: one non-negative scale a site (paper, equation 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.sites import POSITIONS, Site


class Modulator(nn.Module):
    """m = softplus(gamma), one scalar a site, shared by training, evaluation and merging.

    A gamma of -inf is m = 0: the site is off.

    Args:
        sites: the adapted sites, in forward order.
        start: m at the beginning, for every site; 1 makes MetaPEFT start as plain PEFT.

    Raises:
        ValueError: a start that softplus cannot reach.
    """

    gamma: nn.Parameter  # (sites,) float32

    def __init__(self, sites: Sequence[Site], start: float = 1.0) -> None:
        super().__init__()
        if start <= 0:
            raise ValueError(f"start {start}: softplus is above 0, so must be the start")
        self.sites = tuple(sites)
        self.start = _inverse(start)
        self.gamma = nn.Parameter(torch.full((len(self.sites),), self.start))
        self._held: dict[int, float] = {}  # gamma of frozen sites: whatever an optimiser still does, it stays

    def scale(self, index: int) -> Tensor | float:
        """m of the site number `index`: a scalar tensor, or a number where it is frozen."""
        if index in self._held:
            return float(F.softplus(torch.tensor(self._held[index])))
        return F.softplus(self.gamma[index])

    def current(self) -> Tensor:
        """gamma as it acts, frozen sites included, (sites,), a copy."""
        gamma = self.gamma.detach().clone()
        for index, value in self._held.items():
            gamma[index] = value
        return gamma

    def values(self) -> dict[Site, float]:
        """m of every site."""
        return dict(zip(self.sites, F.softplus(self.current()).tolist(), strict=True))

    @property
    def positions(self) -> tuple[str, ...]:
        """The positions in use, in forward order: the columns of `table`."""
        used = {position for _, position in self.sites}
        return tuple(position for position in POSITIONS if position in used)

    def table(self, depth: int) -> Tensor:
        """m as (depth, positions in use), NaN where there is no site."""
        table = torch.full((depth, len(self.positions)), math.nan)
        for (block, position), value in self.values().items():
            table[block, self.positions.index(position)] = value
        return table

    def set(self, values: Mapping[str, float] | Mapping[Site, float]) -> None:
        """Set m by hand: {"blocks.11.*": 0.5, Site(0, "q"): 0}. Later entries win; 0 turns a site off.

        Raises:
            ValueError: a negative value, or a pattern that fits no site.
        """
        with torch.no_grad():
            for pattern, value in values.items():
                for index in self._find(str(pattern)):
                    self.gamma[index] = _inverse(value)
                    if index in self._held:
                        self._held[index] = _inverse(value)

    def freeze(self, pattern: str = "*", frozen: bool = True) -> None:
        """Hold m of some sites where it is, or let it go again.

        Raises:
            ValueError: a pattern that fits no site.
        """
        gamma = self.current()
        for index in self._find(pattern):
            with torch.no_grad():
                self.gamma[index] = gamma[index]
            if frozen:
                self._held[index] = float(gamma[index])
            else:
                self._held.pop(index, None)

    def load(self, gamma: Tensor) -> None:
        """Take gamma (sites,) over, at frozen sites too."""
        with torch.no_grad():
            self.gamma.copy_(gamma)
        self._held = {index: float(gamma[index]) for index in self._held}

    def pull(self, weight_decay: float) -> None:
        """Add to gamma's gradient an L2 pull toward the start; toward 0 it would mean m = 0.69.

        Sites that are frozen or off are left alone.
        """
        if self.gamma.grad is not None:
            gamma = self.gamma.detach()
            away = torch.where(gamma.isinf(), 0, gamma - self.start)
            away[list(self._held)] = 0
            self.gamma.grad.add_(away, alpha=weight_decay)

    def _find(self, pattern: str) -> list[int]:
        found = [index for index, site in enumerate(self.sites) if fnmatchcase(str(site), pattern)]
        if not found:
            raise ValueError(f"{pattern!r} fits no site of the modulator; a site is named like {self.sites[0]}")
        return found


def _inverse(m: float) -> float:
    """softplus^-1(m), -inf for 0."""
    if not 0 <= m < math.inf:
        raise ValueError(f"scale {m}: use a number of 0 or more")
    return m + math.log(-math.expm1(-m)) if m else -math.inf
