"""PEFT methods with a scale at every site: LoRA, LoTR, Adapter, AdaptFormer, and LoRA with AdaptFormer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from rsft.peft.methods import registry
from rsft.peft.methods.registry import register
from rsft.peft.sites import PositionSetting, ScaleSetting

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.adapter_module import AdapterModule


def _unneeded(alpha: float | None) -> dict[str, str]:
    return {} if alpha is None else {"scale": "nothing: alpha / r is the scale"}


@dataclass(frozen=True)
class LowRankMethod:
    """Settings of the low-rank methods.

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
    """

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
        return _unneeded(self.alpha)


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


@dataclass(frozen=True)
class BottleneckMethod:
    """Settings of the bottlenecks at the MLP.

    Dim, scale and dropout are one value for all sites, or values by pattern such as {"blocks.1?.mlp": 8, "*": 4}.

    Attributes:
        dim: h, the width of the bottleneck; 0 excludes the blocks of a pattern.
        blocks: "all", "last:N", "every:N", a range such as "0-5", or indices from 0.
        scale: m_p without a modulator, a number or "1/r".
        dropout: rate after the ReLU, in training.
    """

    is_identity_at_init: ClassVar[bool] = True

    dim: int | Mapping[str, int] = field(default=4, metadata=registry.DIM)
    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)
    scale: ScaleSetting = field(default=1.0, metadata=registry.SCALE)
    dropout: float | Mapping[str, float] = field(default=0.0, metadata=registry.DROPOUT)


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
        return _unneeded(self.alpha)

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the modules of both methods."""
        lora = LoRA(self.rank, self.positions, self.blocks, self.scale, self.dropout, self.alpha, self.init)
        adaptformer = AdaptFormer(self.dim, self.blocks, self.adapter_scale)
        return [*lora.build_modules(vit), *adaptformer.build_modules(vit)]
