"""SSF: a learned scale and shift for every output feature of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from rsft.peft.methods import registry
from rsft.peft.methods.registry import register

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.ssf import ScaleShiftModule


@register
@dataclass(frozen=True)
class SSF:
    """Scale and shift, y * scale + shift, after patch embedding, norms and linear layers (Lian et al. 2022).

    Source: https://arxiv.org/abs/2210.08823. Scale and shift start at 1 and 0, so that attaching the method does not
    change the outputs. The authors draw them from normal distributions around these values.

    Attributes:
        blocks: "all", which includes the patch embedding and the final norm, or a selection of blocks.

    Example:
        >>> import timm
        >>> from rsft.peft import SSF, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, SSF(blocks="last:1")).theta)
        4224
    """

    name: ClassVar[str] = "ssf"
    title: ClassVar[str] = "SSF"
    is_identity_at_init: ClassVar[bool] = True

    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)

    def build_modules(self, vit: nn.Module) -> list[ScaleShiftModule]:
        """Build one scale and one shift for every feature of every selected layer.

        Args:
            vit: a timm vision transformer.

        Returns:
            One module for all layers.
        """
        from rsft.peft.modules.ssf import build_scale_shift

        return [build_scale_shift(vit, self.blocks)]
