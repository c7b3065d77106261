"""Several PEFT methods on one network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from rsft.peft.methods import registry
from rsft.peft.methods.bottleneck import AdaptFormer
from rsft.peft.methods.lora import LoRA
from rsft.peft.methods.registry import Method, register
from rsft.peft.methods.settings import PositionSetting, ScaleSetting

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.adapter_module import AdapterModule


@dataclass(frozen=True)
class CompositeMethod:
    """Any combination of methods that share no site and train no parameter in common.

    Use it from Python. A recipe can only name one registered method.

    Attributes:
        methods: the members, such as (LoRA(positions="qv"), AdaptFormer(dim=4)).

    Example:
        >>> CompositeMethod((LoRA(positions="qv"), AdaptFormer(dim=4))).is_identity_at_init
        True
    """

    name: ClassVar[str] = "together"
    title: ClassVar[str] = "Composite"

    methods: tuple[Method, ...] = ()

    @property
    def is_identity_at_init(self) -> bool:
        """Whether attaching all members leaves the outputs of the network unchanged."""
        return all(method.is_identity_at_init for method in self.methods)

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the modules of all members.

        Args:
            vit: a timm vision transformer.

        Returns:
            The modules of the method.
        """
        return [module for method in self.methods for module in method.build_modules(vit)]


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
        return {} if self.alpha is None else {"scale": "nothing: alpha / r is the scale"}

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the modules of both methods.

        Args:
            vit: a timm vision transformer.

        Returns:
            The modules of the method.
        """
        lora = LoRA(self.rank, self.positions, self.blocks, self.scale, self.dropout, self.alpha, self.init)
        return CompositeMethod((lora, AdaptFormer(self.dim, self.blocks, self.adapter_scale))).build_modules(vit)
