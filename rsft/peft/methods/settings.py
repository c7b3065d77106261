"""Resolve the settings of PEFT methods for every site, and validate them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from rsft.peft.sites import Site, resolve_per_site

if TYPE_CHECKING:
    pass


PositionSetting = str | Sequence[Literal["q", "k", "v", "out", "mlp1", "mlp2", "conv1", "conv2", "conv3", "downsample"]]
"""Positions of a block: letters of "qkvo12", names, or "all"."""


ScaleSetting = float | Literal["1/r", "learnable"] | Mapping[str, float | Literal["1/r", "learnable"]]
"""Scale m_p without a modulator: a number, "1/r" or "learnable" (AdaptFormer), or pattern of sites -> one of these."""


class LowRankSettings(Protocol):
    """Settings of the low-rank methods, LoRA and LoTR."""

    @property
    def rank(self) -> int | Mapping[str, int]:
        """Inner dimension of the factors."""

    @property
    def positions(self) -> PositionSetting:
        """Adapted positions of a block."""

    @property
    def blocks(self) -> str | Sequence[int]:
        """Adapted blocks."""

    @property
    def scale(self) -> ScaleSetting:
        """Scale without a modulator."""

    @property
    def dropout(self) -> float | Mapping[str, float]:
        """Dropout rate in training."""

    @property
    def alpha(self) -> float | None:
        """Numerator of the scale alpha / r; None takes `scale`."""

    @property
    def init(self) -> Literal["width", "rank"]:
        """Fan-in of the start of A."""


class BottleneckSettings(Protocol):
    """Settings of the bottleneck methods, Adapter and AdaptFormer."""

    @property
    def dim(self) -> int | Mapping[str, int]:
        """Width of the bottleneck."""

    @property
    def blocks(self) -> str | Sequence[int]:
        """Adapted blocks."""

    @property
    def scale(self) -> ScaleSetting:
        """Scale without a modulator."""

    @property
    def dropout(self) -> float | Mapping[str, float]:
        """Dropout rate in training."""


def resolve_scales(
    scale: ScaleSetting, ranks: Mapping[Site, int], alpha: float | None = None
) -> dict[Site, float | None]:
    """Return the constant scale of every site.

    Args:
        scale: the setting. "1/r" means 1 / rank of the site, which is alpha = 1; "learnable" gives None.
        ranks: site -> rank.
        alpha: sets the scale to alpha / rank of the site; None takes `scale`.

    Returns:
        Site -> scale.

    Raises:
        ValueError: the scale is another string.
    """
    if alpha is not None:
        return {site: alpha / rank for site, rank in ranks.items()}
    values: Mapping[Site, float | str] = resolve_per_site(scale, tuple(ranks))
    return {site: _resolve_scale(value, ranks[site]) for site, value in values.items()}


def _resolve_scale(value: float | str, rank: int) -> float | None:
    if value == "learnable":
        return None
    if value == "1/r":
        return 1 / rank
    if isinstance(value, str):
        raise ValueError(f"scale {value!r}: use a number, '1/r' or, in AdaptFormer, 'learnable'")
    return float(value)


def validate_dropout(dropout: float | Mapping[str, float], sites: Sequence[Site]) -> dict[Site, float]:
    """Return the dropout rate of every site.

    Args:
        dropout: one rate, or rates by pattern of sites.
        sites: the sites of the method.

    Returns:
        Site -> rate.

    Raises:
        ValueError: a rate is outside of [0, 1).
    """
    rates = resolve_per_site(dropout, sites)
    for site, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"dropout {rate} at {site}: use 0 or more and less than 1")
    return rates


def validate_ranks(rank: int | Mapping[str, int], sites: Sequence[Site]) -> dict[Site, int]:
    """Return the rank of every site that has one.

    Args:
        rank: one rank, or ranks by pattern of sites; 0 excludes a site.
        sites: the sites to choose from.

    Returns:
        Site -> rank of 1 or more.

    Raises:
        ValueError: a rank is negative, or all ranks are 0.
    """
    ranks = {site: value for site, value in resolve_per_site(rank, sites).items() if value}
    if not ranks or min(ranks.values()) < 0:
        raise ValueError(f"rank {rank}: use 1 or more; 0 excludes a site, but at least one site must stay")
    return ranks
