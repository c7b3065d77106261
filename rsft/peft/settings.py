"""Settings of PEFT methods with scales, and their values at every site."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from rsft.peft.sites import LayerPosition, Site, resolve_per_site
from rsft.utils.settings import Setting

PositionSetting = str | Sequence[LayerPosition]
"""Positions of a block: letters of "qkvo12", names, or "all"."""

Positions = Annotated[
    PositionSetting,
    Setting(
        "adapted positions of a block: query, key, value, out, MLP 1, MLP 2 (paper,"
        " Tables 1 and 2); all takes every position that a block has, also the"
        " convolutions of a ResNet",
        pattern="^([qkvo12]+|all)$",
        words="all, letters of qkvo12",
    ),
]

ScaleSetting = (
    float
    | Literal["1/r", "learnable"]
    | Mapping[str, float | Literal["1/r", "learnable"]]
)
"""Scale m_p without a modulator: a number, "1/r" or "learnable" (AdaptFormer), or
pattern of sites -> one of these."""

Dim = Annotated[
    int | Mapping[str, int],
    Setting("width of the bottleneck of Adapter and AdaptFormer", ge=1),
]
Blocks = Annotated[
    str | Sequence[int],
    Setting(
        "adapted transformer blocks (paper, Table 3)",
        pattern="^(all|(last|every):[1-9][0-9]*|[0-9]+-[0-9]+)$",
        words="all, last:N, every:N, a range such as 0-5",
        ge=0,
    ),
]
Scale = Annotated[
    ScaleSetting,
    Setting(
        "fixed scale of a module's output without a modulator; learnable (AdaptFormer"
        " only)"
        " trains it, as LIFT does",
        gt=0,
    ),
]
ModulatorSetting = Annotated[
    Literal["site", "feature"],
    Setting(
        "what the section meta learns at a site: one scale (site; the paper), or one"
        " factor for every output feature (feature; Adapter and AdaptFormer of the"
        " authors' code)"
    ),
]
Prompts = Annotated[
    int,
    Setting("number of prompt tokens that VPT inserts before the patch tokens", ge=1),
]
Dropout = Annotated[
    float | Mapping[str, float],
    Setting("dropout rate in a module, in training", ge=0, lt=1),
]
TokenDropout = Annotated[
    float, Setting("dropout rate in a module, in training", ge=0, lt=1)
]


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

    is_identity_at_init: ClassVar = True

    rank: Annotated[
        int | Mapping[str, int],
        Setting(
            "inner dimension r of low-rank modules (the paper's 4 on DOTA and FUSRS)",
            ge=1,
        ),
    ] = 4
    positions: Positions = "qkvo12"
    blocks: Blocks = "all"
    scale: Scale = 1.0
    dropout: Dropout = 0.0
    alpha: Annotated[
        float | None,
        Setting(
            "numerator of the fixed scale alpha / r, as in the authors' code; null"
            " takes `scale`",
            gt=0,
        ),
    ] = None
    init: Annotated[
        Literal["width", "rank"],
        Setting(
            "fan-in of the start of A: width, the input width (Hugging Face), or rank,"
            " r (LIFT and the authors' code), which makes A sqrt(width / r) times"
            " larger"
        ),
    ] = "width"
    out_insertion: Annotated[
        Literal["parallel", "sequential"],
        Setting(
            "input of the module at the position Out: that of the output projection"
            " (parallel; Hugging Face), or what the projection gives (sequential; the"
            " authors' code)"
        ),
    ] = "parallel"
    modulator: ModulatorSetting = "site"

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

    is_identity_at_init: ClassVar = True

    dim: Dim = 4
    blocks: Blocks = "all"
    scale: Scale = 1.0
    dropout: Dropout = 0.0
    modulator: ModulatorSetting = "site"


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
    values: dict[Site, Any] = resolve_per_site(scale, tuple(ranks))
    scales: dict[Site, float | None] = {}
    for site, value in values.items():
        if value == "learnable":
            scales[site] = None
        elif value == "1/r":
            scales[site] = 1 / ranks[site]
        elif isinstance(value, str):
            raise ValueError(
                f"scale {value!r}: use a number, '1/r' or, in AdaptFormer, 'learnable'"
            )
        else:
            scales[site] = float(value)
    return scales


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
