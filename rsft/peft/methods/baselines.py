"""Baselines: linear probe and full fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from rsft.peft.methods import registry
from rsft.peft.methods.registry import register

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.adapter_module import AdapterModule
    from rsft.peft.modules.selective import SelectiveTuning


@register
@dataclass(frozen=True)
class LinearProbe:
    """A frozen network; only the classifier on top is trained.

    Example:
        >>> import timm
        >>> from rsft.peft import LinearProbe, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> list(attach(vit, LinearProbe()).theta)
        []
    """

    name: ClassVar[str] = "linear-probe"
    title: ClassVar[str] = "Linear probe"
    is_identity_at_init: ClassVar[bool] = True

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build no modules.

        Args:
            vit: a timm vision transformer.

        Returns:
            No modules.
        """
        return []


@register
@dataclass(frozen=True)
class FullTuning:
    """Training of every parameter of the network except its classifier.

    Attributes:
        blocks: "all", or a selection of blocks such as "last:3".

    Example:
        >>> import timm
        >>> from rsft.peft import FullTuning, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, FullTuning(blocks="last:1")).theta)
        444864
    """

    name: ClassVar[str] = "full"
    title: ClassVar[str] = "Full fine-tuning"
    is_identity_at_init: ClassVar[bool] = True

    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)

    def build_modules(self, vit: nn.Module) -> list[SelectiveTuning]:
        """Build trained copies of all parameters.

        Args:
            vit: a timm vision transformer.

        Returns:
            One module for all trained parameters.
        """
        from rsft.peft.modules.selective import SelectiveTuning

        return [SelectiveTuning(vit, self.name, self.blocks, lambda module, name: True)]
