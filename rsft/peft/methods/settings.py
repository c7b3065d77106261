"""Settings of PEFT methods with scales, and their values at every site."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rsft.peft.methods import registry
from rsft.peft.sites import Site, resolve_per_site

PositionSetting = (
    str
    | Sequence[
        Literal[
            "q",
            "k",
            "v",
            "out",
            "mlp1",
            "mlp2",
            "conv1",
            "conv2",
            "conv3",
            "downsample",
        ]
    ]
)
"""Positions of a block: letters of "qkvo12", names, or "all"."""

ScaleSetting = (
    float
    | Literal["1/r", "learnable"]
    | Mapping[str, float | Literal["1/r", "learnable"]]
)
"""Scale m_p without a modulator: a number, "1/r" or "learnable" (AdaptFormer), or
pattern of sites -> one of these."""


@dataclass(frozen=True)
class LowRankMethod:
    """Settings of the low-rank methods.

    Rank, scale and dropout are one value for all sites, or values by pattern such as
    {"blocks.*.q": 8, "*": 4}.

    Attributes:
        rank: r, the inner dimension of A and B; 0 excludes the sites of a pattern.
        positions: letters of "qkvo12", a list of names such as ["q", "mlp2"] or
            ["conv1", "conv3"] (see `rsft.peft.sites`), or "all" for every position that
            a block has.
        blocks: "all", "last:N", "every:N", a range such as "0-5", or indices from 0.
        scale: m_p without a modulator, a number or "1/r".
        dropout: rate on the input of A, in training.
        alpha: sets the scale to alpha / r, as in the code of LIFT and of the paper;
            None takes `scale`.
        init: fan-in of the uniform distribution of A, U(-1/sqrt(fan-in),
            1/sqrt(fan-in)): "width" takes the input width (Hugging Face PEFT), "rank"
            takes r (LIFT and the paper's code). With "rank", A is sqrt(width / r) times
            larger, and the module learns width / r times faster at the same learning
            rate.
        out_insertion: how the module at Out is inserted. "parallel" reads the input h
            of the output projection, W h + b + m f(h) (Hugging Face PEFT). "sequential"
            reads its output, x + m f(x) with x = W h + b (the paper's code, FLoRA in
            models/peft_vit.py). The other positions are parallel in both.
        modulator: what a modulator learns at a site: one scale ("site"), or a factor
            for every output feature ("feature").
    """

    is_identity_at_init: ClassVar[bool] = True

    rank: int | Mapping[str, int] = field(default=4, metadata=registry.RANK)
    positions: PositionSetting = field(
        default="qkvo12", metadata=registry.POSITION_LETTERS
    )
    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)
    scale: ScaleSetting = field(default=1.0, metadata=registry.SCALE)
    dropout: float | Mapping[str, float] = field(default=0.0, metadata=registry.DROPOUT)
    alpha: float | None = field(default=None, metadata=registry.ALPHA)
    init: Literal["width", "rank"] = field(default="width", metadata=registry.INIT)
    out_insertion: Literal["parallel", "sequential"] = field(
        default="parallel", metadata=registry.OUT_INSERTION
    )
    modulator: Literal["site", "feature"] = field(
        default="site", metadata=registry.MODULATOR
    )

    @property
    def unneeded(self) -> dict[str, str]:
        """The scale, if `alpha` sets it."""
        if self.alpha is None:
            return {}
        return {"scale": "nothing: alpha / r is the scale"}


@dataclass(frozen=True)
class BottleneckMethod:
    """Settings of the bottlenecks at the MLP.

    Dim, scale and dropout are one value for all sites, or values by pattern such as
    {"blocks.1?.mlp": 8, "*": 4}.

    Attributes:
        dim: h, the width of the bottleneck; 0 excludes the blocks of a pattern.
        blocks: "all", "last:N", "every:N", a range such as "0-5", or indices from 0.
        scale: m_p without a modulator, a number or "1/r".
        dropout: rate after the ReLU, in training.
        modulator: what a modulator learns at a site: one scale ("site"), or a factor
            for every output feature ("feature"; MetaAdapter and MetaAdaptFormer of the
            paper's code).
    """

    is_identity_at_init: ClassVar[bool] = True

    dim: int | Mapping[str, int] = field(default=4, metadata=registry.DIM)
    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)
    scale: ScaleSetting = field(default=1.0, metadata=registry.SCALE)
    dropout: float | Mapping[str, float] = field(default=0.0, metadata=registry.DROPOUT)
    modulator: Literal["site", "feature"] = field(
        default="site", metadata=registry.MODULATOR
    )


def resolve_scales(
    scale: ScaleSetting, ranks: dict[Site, int], alpha: float | None = None
) -> dict[Site, float | None]:
    """Return the constant scale of every site.

    Args:
        scale: the setting. "1/r" means 1 / rank of the site, which is alpha = 1;
            "learnable" gives None.
        ranks: site -> rank.
        alpha: sets the scale to alpha / rank of the site; None takes `scale`.

    Returns:
        Site -> scale.

    Raises:
        ValueError: the scale is another string.
    """
    if alpha is not None:
        return {site: alpha / rank for site, rank in ranks.items()}
    scales: dict[Site, Any] = resolve_per_site(scale, tuple(ranks))
    for site, value in scales.items():
        if isinstance(value, str) and value not in ("1/r", "learnable"):
            raise ValueError(
                f"scale {value!r}: use a number, '1/r' or, in AdaptFormer, 'learnable'"
            )
        scales[site] = (
            None
            if value == "learnable"
            else 1 / ranks[site]
            if value == "1/r"
            else float(value)
        )
    return scales


def validate_dropout(
    dropout: float | Mapping[str, float], sites: Sequence[Site]
) -> dict[Site, float]:
    """Return the dropout rate of every site.

    Rates are one number, or numbers by pattern of sites.

    Raises:
        ValueError: a rate is outside of [0, 1).
    """
    rates = resolve_per_site(dropout, sites)
    for site, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"dropout {rate} at {site}: use 0 or more and less than 1")
    return rates


def validate_ranks(
    rank: int | Mapping[str, int], sites: Sequence[Site]
) -> dict[Site, int]:
    """Return the rank of every site that has one.

    Ranks are one number, or numbers by pattern; 0 excludes a site.

    Returns:
        Site -> rank of 1 or more.

    Raises:
        ValueError: a rank is negative, or all ranks are 0.
    """
    ranks = {
        site: value for site, value in resolve_per_site(rank, sites).items() if value
    }
    if not ranks or min(ranks.values()) < 0:
        raise ValueError(
            f"rank {rank}: use 1 or more; 0 excludes a site, but at least one site must"
            " stay"
        )
    return ranks
