"""LoRA, with two factors for every site, and LoTR, with factors that all blocks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from rsft.peft.methods import registry
from rsft.peft.methods.registry import register
from rsft.peft.methods.settings import PositionSetting, ScaleSetting

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.low_rank import LowRankModule


@register
@dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation (Hu et al. 2022, https://arxiv.org/abs/2106.09685): f(x) = (x A) B, where B is zero at first.

    Rank, scale and dropout are one value for all sites, or values by pattern such as {"blocks.*.q": 8, "*": 4}.

    Attributes:
        rank: r, the inner dimension of A and B; 0 excludes the sites of a pattern.
        positions: letters of "qkvo12", a list of names such as ["q", "mlp2"] or ["conv1", "conv3"] (see
            `rsft.peft.sites`), or "all" for every position that a block has.
        blocks: "all", "last:N", "every:N", a range such as "0-5", or indices from 0.
        scale: m_p without a modulator, a number or "1/r".
        dropout: rate on the input of A, in training.
        alpha: sets the scale to alpha / r, as in the code of LIFT and of the paper; None takes `scale`.
        init: fan-in of the uniform distribution of A, U(-1/sqrt(fan-in), 1/sqrt(fan-in)): "width" takes the input width
            (Hugging Face PEFT), "rank" takes r (LIFT and the paper's code). With "rank", A is
            sqrt(width / r) times larger, and the module learns width / r times faster at the same learning rate.

    Example:
        >>> LoRA(rank=8, positions="qv").name
        'lora'
    """

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA"
    is_identity_at_init: ClassVar[bool] = True

    rank: int | Mapping[str, int] = field(default=4, metadata=registry.RANK)
    positions: PositionSetting = field(default="qkvo12", metadata=registry.POSITION_LETTERS)
    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)
    scale: ScaleSetting = field(default=1.0, metadata=registry.SCALE)
    dropout: float | Mapping[str, float] = field(default=0.0, metadata=registry.DROPOUT)
    alpha: float | None = field(default=None, metadata=registry.ALPHA)
    init: Literal["width", "rank"] = field(default="width", metadata=registry.INIT)

    @property
    def unneeded(self) -> dict[str, str]:
        """The scale, if `alpha` sets it."""
        return {} if self.alpha is None else {"scale": "nothing: alpha / r is the scale"}

    def build_modules(self, vit: nn.Module) -> list[LowRankModule]:
        """Build two factors for every selected position of every selected block.

        Args:
            vit: a timm vision transformer.

        Returns:
            One module for all sites.
        """
        from rsft.peft.modules.low_rank import build_lora_module

        return [build_lora_module(self, vit)]


@register
@dataclass(frozen=True)
class LoTR:
    """Low tensor rank adaptation (Bershatsky et al. 2024, https://arxiv.org/abs/2402.01376): f(x) = (x A) G B.

    All blocks share the A and B of a position. Each block has its own G (r, r), which is zero at first. The attributes
    are those of `LoRA`, but the rank of a position must be the same in all blocks.

    Example:
        >>> import timm
        >>> from rsft.peft import LoTR, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, LoTR(rank=4, positions="qv")).theta)
        3456
    """

    name: ClassVar[str] = "lotr"
    title: ClassVar[str] = "LoTR"
    is_identity_at_init: ClassVar[bool] = True

    rank: int | Mapping[str, int] = field(default=4, metadata=registry.RANK)
    positions: PositionSetting = field(default="qkvo12", metadata=registry.POSITION_LETTERS)
    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)
    scale: ScaleSetting = field(default=1.0, metadata=registry.SCALE)
    dropout: float | Mapping[str, float] = field(default=0.0, metadata=registry.DROPOUT)
    alpha: float | None = field(default=None, metadata=registry.ALPHA)
    init: Literal["width", "rank"] = field(default="width", metadata=registry.INIT)

    @property
    def unneeded(self) -> dict[str, str]:
        """The scale, if `alpha` sets it."""
        return {} if self.alpha is None else {"scale": "nothing: alpha / r is the scale"}

    def build_modules(self, vit: nn.Module) -> list[LowRankModule]:
        """Build shared factors for every selected position and a core for every site.

        Args:
            vit: a timm vision transformer.

        Returns:
            One module for all sites.

        Raises:
            ValueError: ranks or layer widths differ between the blocks of a position.
        """
        from rsft.peft.modules.low_rank import build_lotr_module

        return [build_lotr_module(self, vit)]
