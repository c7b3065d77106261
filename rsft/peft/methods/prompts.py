"""Visual prompt tuning: learned tokens between the prefix tokens and the patch tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from rsft.peft.methods import registry
from rsft.peft.methods.registry import register
from rsft.peft.sites import select_blocks

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.prompts import PromptModule


@register
@dataclass(frozen=True)
class VPTShallow:
    """Prompts at the input of the first block (Jia et al. 2022, https://arxiv.org/abs/2203.12119).

    Attributes:
        prompts: number of prompts.
        dropout: rate on the prompts, in training.

    Example:
        >>> import timm
        >>> from rsft.peft import VPTShallow, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, VPTShallow(prompts=10)).theta)
        1920
    """

    name: ClassVar[str] = "vpt-shallow"
    title: ClassVar[str] = "VPT-Shallow"
    is_identity_at_init: ClassVar[bool] = False

    prompts: int = field(default=10, metadata=registry.PROMPTS)
    dropout: float = field(default=0.0, metadata=registry.DROPOUT)

    def build_modules(self, vit: nn.Module) -> list[PromptModule]:
        """Build the prompts of the first block, (prompts, D).

        Args:
            vit: a timm vision transformer.

        Returns:
            One module for all prompts.
        """
        from rsft.peft.modules.prompts import PromptModule

        return [PromptModule(vit, self.prompts, (0,), self.dropout)]


@register
@dataclass(frozen=True)
class VPTDeep:
    """Prompts at the input of every selected block, which replace the prompts of the selected block before.

    Prompts pass through the blocks that are not selected (Jia et al. 2022, https://arxiv.org/abs/2203.12119).

    Attributes:
        prompts: number of prompts in every selected block.
        blocks: "all", "last:N", "every:N", a range such as "0-5", or indices from 0.
        dropout: rate on the prompts, in training.

    Example:
        >>> import timm
        >>> from rsft.peft import VPTDeep, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, VPTDeep(prompts=10, blocks="last:3")).theta)
        5760
    """

    name: ClassVar[str] = "vpt-deep"
    title: ClassVar[str] = "VPT-Deep"
    is_identity_at_init: ClassVar[bool] = False

    prompts: int = field(default=10, metadata=registry.PROMPTS)
    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)
    dropout: float = field(default=0.0, metadata=registry.DROPOUT)

    def build_modules(self, vit: nn.Module) -> list[PromptModule]:
        """Build the prompts of every selected block, (prompts, D) each.

        Args:
            vit: a timm vision transformer.

        Returns:
            One module for all prompts.
        """
        from rsft.peft.modules.adapter_module import transformer_blocks
        from rsft.peft.modules.prompts import PromptModule

        blocks = select_blocks(self.blocks, len(transformer_blocks(vit)))
        return [PromptModule(vit, self.prompts, blocks, self.dropout)]
