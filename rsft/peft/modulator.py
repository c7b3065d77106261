"""The modulator of MetaPEFT (paper, equation 6).

It is a non-negative scale for every site, or a factor for every feature.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.sites import POSITIONS, Site
from rsft.types import Names


def gamma_to_scale(gamma: Tensor) -> Tensor:
    """Return the scale m = softplus(gamma); a gamma of -inf gives 0.

    Args:
        gamma: a tensor of any shape.

    Returns:
        Scales of the same shape.

    Example:
        >>> gamma_to_scale(torch.tensor([0.0, 2.0]))
        tensor([0.6931, 2.1269])
    """
    return F.softplus(gamma)


def scale_to_gamma(scale: float) -> float:
    """Return the gamma of a scale, the inverse of softplus; a scale of 0 gives -inf.

    Raises:
        ValueError: the scale is negative or not finite.
    """
    if not 0 <= scale < math.inf:
        raise ValueError(f"scale {scale}: use a number of 0 or more")
    if scale:
        return scale + math.log(-math.expm1(-scale))
    return -math.inf


class Modulator(nn.Module):
    """Learned factors m = softplus(gamma), shared by training, evaluation and merging.

    A site has one factor, its scale, or one factor for every output feature; then its
    scale is the mean of its factors. A gamma of -inf is a factor of 0. If all factors
    of a site are 0, the site is off.

    Args:
        sites: the adapted sites, in forward order.
        init_scale: initial value of every factor; with 1, MetaPEFT starts as plain
            PEFT.
        widths: number of factors of every site; None gives every site one.

    Raises:
        ValueError: `init_scale` is not above 0; softplus never reaches 0.

    Example:
        >>> modulator = Modulator([Site(0, "q"), Site(0, "v")])
        >>> modulator.set_scales({"*.v": 0.5})
        >>> {str(site): round(scale, 4) for site, scale in modulator.scales().items()}
        {'blocks.0.q': 1.0, 'blocks.0.v': 0.5}
    """

    gamma: nn.Parameter  # (factors,) float32, site after site

    def __init__(
        self,
        sites: Sequence[Site],
        init_scale: float = 1.0,
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if init_scale <= 0:
            raise ValueError(
                f"init_scale {init_scale}: use a number above 0; softplus never"
                " reaches 0"
            )
        self.sites = tuple(sites)
        self.widths = tuple(widths or [1] * len(self.sites))
        self.init_gamma = scale_to_gamma(init_scale)
        self.gamma = nn.Parameter(torch.full((sum(self.widths),), self.init_gamma))
        self._factors: list[int | slice] = []
        start = 0
        for width in self.widths:
            self._factors.append(start if width == 1 else slice(start, start + width))
            start += width
        # site index -> gamma, unaffected by optimizer steps
        self._frozen_gamma: dict[int, Tensor] = {}
        # site after site, see `use_factors`
        self._other_factors: tuple[Tensor, ...] | None = None

    def scale(self, index: int) -> Tensor | float:
        """Return what the output of one site is multiplied by.

        Args:
            index: the index of the site in `sites`.

        Returns:
            A scalar tensor, or a number if the site is frozen; with several factors
            always a tensor (factors,).
        """
        if self._other_factors is not None:
            return self._other_factors[index]
        if index not in self._frozen_gamma:
            return gamma_to_scale(self.gamma[self._factors[index]])
        frozen = gamma_to_scale(self._frozen_gamma[index])
        if frozen.ndim:
            return frozen.to(self.gamma.device)
        return float(frozen)

    @contextmanager
    def use_factors(self, factors: Tensor) -> Iterator[None]:
        """Let other factors act until the block ends, at all sites.

        `gamma` and `scales` do not change.

        Args:
            factors: (factors,); they get a gradient if they require one.

        Yields:
            Nothing.
        """
        self._other_factors = tuple(
            part.squeeze(0) if len(part) == 1 else part
            for part in torch.split(factors, list(self.widths))
        )
        try:
            yield
        finally:
            self._other_factors = None

    @contextmanager
    def compute_together(self) -> Iterator[None]:
        """Compute the factors of all sites at once until the block ends.

        Otherwise every site needs operators of its own. Frozen sites have constants.

        Yields:
            Nothing.
        """
        if self._frozen_gamma or self._other_factors is not None:
            yield
        else:
            with self.use_factors(gamma_to_scale(self.gamma)):
                yield

    def effective_gamma(self) -> Tensor:
        """Return a copy of gamma with the values of frozen sites.

        Returns:
            (factors,), float32.
        """
        gamma = self.gamma.detach().clone()
        for index, value in self._frozen_gamma.items():
            gamma[self._factors[index]] = value
        return gamma

    def by_site(self, values: Tensor) -> dict[Site, Tensor]:
        """Split one value for every factor, such as gamma, by site.

        Args:
            values: (factors,).

        Returns:
            Site -> values (factors of the site,), in forward order.
        """
        return {
            site: values[factors].reshape(-1)
            for site, factors in zip(self.sites, self._factors, strict=True)
        }

    def factors(self) -> dict[Site, Tensor]:
        """Return the factors of every site, in forward order."""
        return self.by_site(gamma_to_scale(self.effective_gamma()))

    def scales(self) -> dict[Site, float]:
        """Return the scale of every site.

        Returns:
            Site -> scale, the mean of its factors, in forward order.
        """
        return {site: float(factors.mean()) for site, factors in self.factors().items()}

    @property
    def is_frozen(self) -> bool:
        """Whether all scales are frozen."""
        return len(self._frozen_gamma) == len(self.sites)

    @property
    def positions(self) -> Names:
        """The positions in use, in forward order: the columns of `table`."""
        used = {position for _, position in self.sites}
        return tuple(position for position in POSITIONS if position in used)

    def table(self, depth: int) -> Tensor:
        """Return all scales as a table, given the number of blocks of the network.

        Returns:
            (depth, positions in use), NaN where the modulator has no site.

        Example:
            >>> Modulator([Site(0, "q"), Site(1, "v")]).table(depth=2)
            tensor([[1., nan],
                    [nan, 1.]])
        """
        table = torch.full((depth, len(self.positions)), math.nan)
        for (block, position), scale in self.scales().items():
            table[block, self.positions.index(position)] = scale
        return table

    def set_scales(self, scales: Mapping[str, float] | Mapping[Site, float]) -> None:
        """Set scales by hand.

        Args:
            scales: site or pattern -> scale, the value of all factors of a site, such
                as {"blocks.11.*": 0.5, Site(0, "q"): 0}. Later entries win; 0 turns a
                site off.

        Raises:
            ValueError: a scale is negative, or a pattern matches no site.
        """
        with torch.no_grad():
            for pattern, scale in scales.items():
                for index in self._indices(str(pattern)):
                    self.gamma[self._factors[index]] = scale_to_gamma(scale)
                    if index in self._frozen_gamma:
                        self._frozen_gamma[index].fill_(scale_to_gamma(scale))

    def freeze(self, pattern: str = "*") -> None:
        """Freeze the scales of sites at their values.

        Sites are given by shell patterns such as "blocks.3.*".

        Raises:
            ValueError: the pattern matches no site.
        """
        gamma = self.effective_gamma()
        for index in self._indices(pattern):
            value = gamma[self._factors[index]].clone()
            with torch.no_grad():
                self.gamma[self._factors[index]] = value
            self._frozen_gamma[index] = value

    def load_gamma(self, gamma: Tensor) -> None:
        """Load the values of gamma (factors,), also at frozen sites."""
        with torch.no_grad():
            self.gamma.copy_(gamma)
        self._frozen_gamma = {
            index: gamma[self._factors[index]].clone() for index in self._frozen_gamma
        }

    def add_decay_toward_init(self, weight_decay: float) -> None:
        """Add the gradient of an L2 penalty to gamma's gradient.

        The penalty acts on gamma's distance from its initial value.

        Decay toward a gamma of 0 would mean decay toward a scale of 0.69. Sites that
        are frozen or off stay unchanged.
        """
        if self.gamma.grad is not None:
            gamma = self.gamma.detach()
            distance = torch.where(gamma.isinf(), 0, gamma - self.init_gamma)
            for index in self._frozen_gamma:
                distance[self._factors[index]] = 0
            self.gamma.grad.add_(distance, alpha=weight_decay)

    def _indices(self, pattern: str) -> list[int]:
        indices = [
            index
            for index, site in enumerate(self.sites)
            if fnmatchcase(str(site), pattern)
        ]
        if not indices:
            raise ValueError(
                f"{pattern!r} matches no site of the modulator; names of sites look"
                f" like {self.sites[0]}"
            )
        return indices
