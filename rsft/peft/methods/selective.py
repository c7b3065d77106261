"""PEFT methods that train some of the network's own parameters: BitFit and LayerNorm tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from rsft.peft.methods import registry
from rsft.peft.methods.registry import register

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.selective import SelectiveTuning


@register
@dataclass(frozen=True)
class BitFit:
    """Training of every bias (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199).

    Attributes:
        blocks: "all", which includes the patch embedding and the final norm, or a selection of blocks. "every:1" trains
            the biases of all blocks alone, as LIFT does.

    Example:
        >>> import timm
        >>> from rsft.peft import BitFit, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, BitFit(blocks="last:1")).theta)
        2112
    """

    name: ClassVar[str] = "bitfit"
    title: ClassVar[str] = "BitFit"
    is_identity_at_init: ClassVar[bool] = True

    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)

    def build_modules(self, vit: nn.Module) -> list[SelectiveTuning]:
        """Build trained copies of the parameters whose name ends with "bias".

        Args:
            vit: a timm vision transformer.

        Returns:
            One module for all trained parameters.
        """
        from rsft.peft.modules.selective import SelectiveTuning

        return [SelectiveTuning(vit, self.name, self.blocks, lambda module, name: name.endswith("bias"))]


@register
@dataclass(frozen=True)
class LayerNormTuning:
    """Training of weight and bias of every normalization (Zhao et al. 2024, https://arxiv.org/abs/2312.11420).

    Attributes:
        blocks: "all", which includes the final norm, or a selection of blocks.

    Example:
        >>> import timm
        >>> from rsft.peft import LayerNormTuning, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, LayerNormTuning(blocks="last:1")).theta)
        768
    """

    name: ClassVar[str] = "layernorm"
    title: ClassVar[str] = "LayerNorm tuning"
    is_identity_at_init: ClassVar[bool] = True

    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)

    def build_modules(self, vit: nn.Module) -> list[SelectiveTuning]:
        """Build trained copies of the parameters of modules whose class name contains "norm".

        Args:
            vit: a timm vision transformer.

        Returns:
            One module for all trained parameters.
        """
        from rsft.peft.modules.selective import SelectiveTuning

        def is_norm(module: nn.Module, name: str) -> bool:
            return "norm" in type(module).__name__.lower()

        return [SelectiveTuning(vit, self.name, self.blocks, is_norm)]
