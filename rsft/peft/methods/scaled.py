"""PEFT methods with a scale at every site: LoRA, LoTR, Adapter, AdaptFormer, and LoRA with AdaptFormer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from rsft.peft.methods import registry
from rsft.peft.methods.registry import register
from rsft.peft.methods.settings import (
    BottleneckMethod,
    LowRankMethod,
    PositionSetting,
    ScaleSetting,
    alpha_replaces_scale,
)

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.adapter_module import AdapterModule


@register
@dataclass(frozen=True)
class LoRA(LowRankMethod):
    """Low-rank adaptation (Hu et al. 2022, https://arxiv.org/abs/2106.09685): f(x) = (x A) B, where B is zero at first.

    The attributes are those of `LowRankMethod`.

    Example:
        >>> LoRA(rank=8, positions="qv").name
        'lora'
    """

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA"

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build two factors for every selected position of every selected block."""
        from rsft.peft.modules.low_rank import LoRAModule

        return [LoRAModule(self, vit)]


@register
@dataclass(frozen=True)
class LoTR(LowRankMethod):
    """Low tensor rank adaptation (Bershatsky et al. 2024, https://arxiv.org/abs/2402.01376): f(x) = (x A) G B.

    All blocks share the A and B of a position. Each block has its own G (r, r), which is zero at first. The attributes
    are those of `LowRankMethod`, but the rank of a position must be the same in all blocks.

    Example:
        >>> import timm
        >>> from rsft.peft import LoTR, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, LoTR(rank=4, positions="qv")).theta)
        3456
    """

    name: ClassVar[str] = "lotr"
    title: ClassVar[str] = "LoTR"

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build shared factors for every selected position and a core for every site."""
        from rsft.peft.modules.low_rank import LoTRModule

        return [LoTRModule(self, vit)]


@register
@dataclass(frozen=True)
class Adapter(BottleneckMethod):
    """A bottleneck on the MLP's output y, before the residual (Houlsby et al. 2019, https://arxiv.org/abs/1902.00751).

    It computes y + m f(y) with f(y) = up(relu(down(LN(y)))), where up is zero at first. LayerScale, in blocks that have
    it, acts on the sum, as it does on an addition at mlp2. The attributes are those of `BottleneckMethod`.

    Example:
        >>> import timm
        >>> from rsft.peft import Adapter, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, Adapter(dim=8, blocks="last:1")).theta)
        3656
    """

    name: ClassVar[str] = "adapter"
    title: ClassVar[str] = "Adapter"

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build one bottleneck for every selected block; a learnable scale is an error."""
        from rsft.peft.modules.bottleneck import BottleneckModule

        module = BottleneckModule(self, vit, parallel=False)
        if None in module.fixed_scales.values():
            raise ValueError("scale 'learnable' is for AdaptFormer only; use a number or '1/r'")
        return [module]


@register
@dataclass(frozen=True)
class AdaptFormer(BottleneckMethod):
    """A bottleneck parallel to the MLP (Chen et al. 2022, https://arxiv.org/abs/2205.13535).

    Its input x is that of the MLP branch, before the norm. It adds m f(x) to the MLP's output, with
    f(x) = up(relu(down(LN(x)))), where up is zero at first. The attributes are those of `BottleneckMethod`. The scale
    "learnable" trains one scalar for each site together with the other parameters, starting at 1, as LIFT does (Shi et
    al. 2024, https://arxiv.org/abs/2309.10019).

    Example:
        >>> import timm
        >>> from rsft.peft import AdaptFormer, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, AdaptFormer(dim=8, blocks="last:1")).theta)
        3656
    """

    name: ClassVar[str] = "adaptformer"
    title: ClassVar[str] = "AdaptFormer"

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build one bottleneck for every selected block; the norm of a block must come before its MLP."""
        from rsft.peft.modules.bottleneck import BottleneckModule

        return [BottleneckModule(self, vit, parallel=True)]


@register
@dataclass(frozen=True)
class LoRAWithAdaptFormer:
    """LoRA and AdaptFormer together, which the paper's Table S2 counts as LoRA.

    Attributes:
        rank: the rank of LoRA.
        dim: the bottleneck width of AdaptFormer.
        positions: the positions of LoRA.
        blocks: the blocks of both methods.
        scale: the scale of LoRA.
        adapter_scale: the scale of AdaptFormer.
        dropout: the dropout of LoRA.
        alpha: the alpha of LoRA.
        init: the start of LoRA's A.

    Example:
        >>> LoRAWithAdaptFormer(rank=4, dim=8).title
        'LoRA + AdaptFormer'
    """

    name: ClassVar[str] = "lora+adaptformer"
    title: ClassVar[str] = "LoRA + AdaptFormer"
    is_identity_at_init: ClassVar[bool] = True

    rank: int | Mapping[str, int] = field(default=4, metadata=registry.RANK)
    dim: int | Mapping[str, int] = field(default=4, metadata=registry.DIM)
    positions: PositionSetting = field(default="qkvo12", metadata=registry.POSITION_LETTERS)
    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)
    scale: ScaleSetting = field(default=1.0, metadata=registry.SCALE)
    adapter_scale: ScaleSetting = field(default=1.0, metadata=registry.ADAPTER_SCALE)
    dropout: float | Mapping[str, float] = field(default=0.0, metadata=registry.DROPOUT)
    alpha: float | None = field(default=None, metadata=registry.ALPHA)
    init: Literal["width", "rank"] = field(default="width", metadata=registry.INIT)

    @property
    def unneeded(self) -> dict[str, str]:
        """The scale of LoRA, if `alpha` sets it."""
        return alpha_replaces_scale(self.alpha)

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the modules of both methods."""
        lora = LoRA(self.rank, self.positions, self.blocks, self.scale, self.dropout, self.alpha, self.init)
        adaptformer = AdaptFormer(self.dim, self.blocks, self.adapter_scale)
        return [*lora.build_modules(vit), *adaptformer.build_modules(vit)]
