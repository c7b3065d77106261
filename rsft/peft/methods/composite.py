"""Several methods at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from rsft.peft.methods.adapter_module import Part
from rsft.peft.methods.bottleneck import AdaptFormer
from rsft.peft.methods.lora import LoRA
from rsft.peft.methods.registry import Method, Scales, register


@register
@dataclass(frozen=True)
class Together:
    """Any methods that do not meet at a site or train the same parameter.

    Attributes:
        methods: such as (LoRA(positions="qv"), AdaptFormer(dim=4)).
    """

    name: ClassVar[str] = "together"
    methods: tuple[Method, ...] = ()

    def parts(self, vit: nn.Module) -> list[Part]:
        """The parts of all of them."""
        return [part for method in self.methods for part in method.parts(vit)]


@register
@dataclass(frozen=True)
class LoRAWithAdaptFormer:
    """LoRA in the attention and AdaptFormer beside the MLP: what the paper's Table S2 counts under LoRA.

    Attributes:
        rank, positions, scale, dropout: of LoRA.
        dim, adapter_scale: of AdaptFormer.
        blocks: of both.
    """

    name: ClassVar[str] = "lora+adaptformer"
    rank: int | Mapping[str, int] = 4
    dim: int | Mapping[str, int] = 4
    positions: str = "qv"
    blocks: str | Sequence[int] = "all"
    scale: Scales = 1.0
    adapter_scale: Scales = 1.0
    dropout: float | Mapping[str, float] = 0.0

    def parts(self, vit: nn.Module) -> list[Part]:
        """The parts of both."""
        lora = LoRA(self.rank, self.positions, self.blocks, self.scale, self.dropout)
        return Together((lora, AdaptFormer(self.dim, self.blocks, self.adapter_scale))).parts(vit)
