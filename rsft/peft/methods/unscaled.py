"""PEFT methods without scales: prompts, parts of the network itself, and the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from rsft.peft.methods import registry
from rsft.peft.methods.registry import register
from rsft.peft.sites import select_blocks

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.adapter_module import AdapterModule


@register
@dataclass(frozen=True)
class VPTShallow:
    """Prompts at the input of the first block (Jia et al. 2022, https://arxiv.org/abs/2203.12119).

    Prompts are learned tokens between the prefix tokens and the patch tokens.

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

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the prompts of the first block, (prompts, D)."""
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

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the prompts of every selected block, (prompts, D) each."""
        from rsft.peft.modules.adapter_module import transformer_blocks
        from rsft.peft.modules.prompts import PromptModule

        blocks = select_blocks(self.blocks, len(transformer_blocks(vit)))
        return [PromptModule(vit, self.prompts, blocks, self.dropout)]


@dataclass(frozen=True)
class SelectiveMethod:
    """A method that trains some of the network's own parameters.

    Attributes:
        blocks: "all", which includes layers outside of the blocks such as the final norm, or a selection of blocks.
    """

    name: ClassVar[str]
    is_identity_at_init: ClassVar[bool] = True

    blocks: str | Sequence[int] = field(default="all", metadata=registry.BLOCKS)

    def trains(self, module: nn.Module, parameter: str) -> bool:
        """Return whether the method trains a parameter of a module, such as "bias"."""
        raise NotImplementedError

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build trained copies of the selected parameters."""
        from rsft.peft.modules.selective import SelectiveTuning

        return [SelectiveTuning(vit, self.name, self.blocks, self.trains)]


@register
@dataclass(frozen=True)
class BitFit(SelectiveMethod):
    """Training of every bias (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199).

    "all" blocks include the patch embedding and the final norm. "every:1" trains the biases of all blocks alone, as
    LIFT does.

    Example:
        >>> import timm
        >>> from rsft.peft import BitFit, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, BitFit(blocks="last:1")).theta)
        2112
    """

    name: ClassVar[str] = "bitfit"
    title: ClassVar[str] = "BitFit"

    def trains(self, module: nn.Module, parameter: str) -> bool:
        """Return whether the parameter is a bias."""
        return parameter.endswith("bias")


@register
@dataclass(frozen=True)
class LayerNormTuning(SelectiveMethod):
    """Training of weight and bias of every normalization (Zhao et al. 2024, https://arxiv.org/abs/2312.11420).

    Example:
        >>> import timm
        >>> from rsft.peft import LayerNormTuning, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, LayerNormTuning(blocks="last:1")).theta)
        768
    """

    name: ClassVar[str] = "layernorm"
    title: ClassVar[str] = "LayerNorm tuning"

    def trains(self, module: nn.Module, parameter: str) -> bool:
        """Return whether the class name of the module contains "norm"."""
        return "norm" in type(module).__name__.lower()


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

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build one scale and one shift for every feature of every selected layer."""
        from rsft.peft.modules.selective import ScaleShiftModule

        return [ScaleShiftModule(vit, self.blocks)]


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
        """Build no modules."""
        return []


@register
@dataclass(frozen=True)
class FullTuning(SelectiveMethod):
    """Training of every parameter of the network except its classifier.

    Example:
        >>> import timm
        >>> from rsft.peft import FullTuning, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> sum(parameter.numel() for parameter in attach(vit, FullTuning(blocks="last:1")).theta)
        444864
    """

    name: ClassVar[str] = "full"
    title: ClassVar[str] = "Full fine-tuning"

    def trains(self, module: nn.Module, parameter: str) -> bool:
        """Return True for every parameter."""
        return True
