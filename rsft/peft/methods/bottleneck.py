"""Bottleneck modules at the MLP of a block: Adapter after it, AdaptFormer parallel to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from rsft.peft.methods import registry
from rsft.peft.methods.registry import register
from rsft.peft.methods.settings import ScaleSetting

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.bottleneck import BottleneckModule


@register
@dataclass(frozen=True)
class Adapter:
    """A bottleneck on the MLP's output y, before the residual (Houlsby et al. 2019, https://arxiv.org/abs/1902.00751).

    It computes y + m f(y) with f(y) = up(relu(down(LN(y)))), where up is zero at first. LayerScale, in blocks that have
    it, acts on the sum, as it does on an addition at mlp2. Dim, scale and dropout are one value for all sites, or
    values by pattern such as {"blocks.1?.mlp": 8, "*": 4}.

    Attributes:
        dim: h, the width of the bottleneck; 0 excludes the blocks of a pattern.
        blocks: "all", "last:N", "every:N", a range such as "0-5", or indices from 0.
        scale: m_p without a modulator, a number or "1/r".
        dropout: rate after the ReLU, in training.

    Example:
        >>> import timm
        >>> from rsft.peft import Adapter, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, Adapter(dim=8, blocks="last:1")).theta)
        3656
    """

    name: ClassVar[str] = "adapter"
    title: ClassVar[str] = "Adapter"
    is_identity_at_init: ClassVar[bool] = True

    dim: int | Mapping[str, int] = field(default=4, metadata=registry.DIM)
    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)
    scale: ScaleSetting = field(default=1.0, metadata=registry.SCALE)
    dropout: float | Mapping[str, float] = field(default=0.0, metadata=registry.DROPOUT)

    def build_modules(self, vit: nn.Module) -> list[BottleneckModule]:
        """Build one bottleneck for every selected block.

        Args:
            vit: a timm vision transformer.

        Returns:
            One module for all sites.

        Raises:
            ValueError: a block has no MLP, or the scale is learnable.
        """
        from rsft.peft.modules.bottleneck import BottleneckModule

        module = BottleneckModule(self, vit, parallel=False)
        if None in module.fixed_scales.values():
            raise ValueError("scale 'learnable' is for AdaptFormer only; use a number or '1/r'")
        return [module]


@register
@dataclass(frozen=True)
class AdaptFormer:
    """A bottleneck parallel to the MLP (Chen et al. 2022, https://arxiv.org/abs/2205.13535).

    Its input x is that of the MLP branch, before the norm. It adds m f(x) to the MLP's output, with
    f(x) = up(relu(down(LN(x)))), where up is zero at first. The attributes are those of `Adapter`. The scale
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
    is_identity_at_init: ClassVar[bool] = True

    dim: int | Mapping[str, int] = field(default=4, metadata=registry.DIM)
    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)
    scale: ScaleSetting = field(default=1.0, metadata=registry.SCALE)
    dropout: float | Mapping[str, float] = field(default=0.0, metadata=registry.DROPOUT)

    def build_modules(self, vit: nn.Module) -> list[BottleneckModule]:
        """Build one bottleneck for every selected block.

        Args:
            vit: a timm vision transformer.

        Returns:
            One module for all sites.

        Raises:
            ValueError: a block has no MLP, or its norm does not come before the MLP.
        """
        from rsft.peft.modules.bottleneck import BottleneckModule

        return [BottleneckModule(self, vit, parallel=True)]
