"""The PEFT methods of rsft: first those with a scale at every site.

The settings `blocks` are "all", "last:N", "every:N", a range such as "0-5", or indices
from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from rsft.peft.methods import registry
from rsft.peft.settings import (
    Blocks,
    BottleneckMethod,
    Dim,
    LowRankMethod,
    Prompts,
    ScaleSetting,
    TokenDropout,
)
from rsft.peft.sites import select_blocks
from rsft.utils.settings import Setting

if TYPE_CHECKING:
    from torch import nn

    from rsft.peft.modules.adapter_module import AdapterModule


@registry.register
@dataclass(frozen=True)
class LoRA(LowRankMethod):
    """Low-rank adaptation: f(x) = (x A) B, where B is zero at first.

    Source: Hu et al. 2022, https://arxiv.org/abs/2106.09685.
    The attributes are those of `LowRankMethod`.

    Example:
        >>> LoRA(rank=8, positions="qv").name
        'lora'
    """

    name: ClassVar = "lora"
    title: ClassVar = "LoRA"

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build two factors for every selected position of every selected block."""
        from rsft.peft.modules.scaled import LoRAModule

        return [LoRAModule(self, vit)]


@registry.register
@dataclass(frozen=True)
class LoTR(LowRankMethod):
    """Low tensor rank adaptation: f(x) = (x A) G B.

    Source: Bershatsky et al. 2024, https://arxiv.org/abs/2402.01376.

    All blocks share the A and B of a position. Each block has its own G (r, r), which
    is zero at first. The attributes are those of `LowRankMethod`, but the rank of a
    position must be the same in all blocks.

    Example:
        >>> import timm
        >>> from rsft.peft import LoTR, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> adapted = attach(vit, LoTR(rank=4, positions="qv"))
        >>> sum(parameter.numel() for parameter in adapted.theta)
        3456
    """

    name: ClassVar = "lotr"
    title: ClassVar = "LoTR"

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build shared factors for every selected position, and a core per site."""
        from rsft.peft.modules.scaled import LoTRModule

        return [LoTRModule(self, vit)]


@registry.register
@dataclass(frozen=True)
class Adapter(BottleneckMethod):
    """A bottleneck on the MLP's output y, before the residual.

    Source: Houlsby et al. 2019, https://arxiv.org/abs/1902.00751.

    It computes y + m f(y) with f(y) = up(relu(down(LN(y)))), where up is zero at first.
    LayerScale, in blocks that have it, acts on the sum, as it does on an addition at
    mlp2. The attributes are those of `BottleneckMethod`.

    Example:
        >>> import timm
        >>> from rsft.peft import Adapter, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> adapted = attach(vit, Adapter(dim=8, blocks="last:1"))
        >>> sum(parameter.numel() for parameter in adapted.theta)
        3656
    """

    name: ClassVar = "adapter"
    title: ClassVar = "Adapter"

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build one bottleneck for every selected block.

        A learnable scale is an error.
        """
        from rsft.peft.modules.scaled import BottleneckModule

        module = BottleneckModule(self, vit, parallel=False)
        if None in module.fixed_scales.values():
            raise ValueError(
                "scale 'learnable' is for AdaptFormer only; use a number or '1/r'"
            )
        return [module]


@registry.register
@dataclass(frozen=True)
class AdaptFormer(BottleneckMethod):
    """A bottleneck parallel to the MLP.

    Source: Chen et al. 2022, https://arxiv.org/abs/2205.13535.

    Its input x is that of the MLP branch, before the norm. It adds m f(x) to the MLP's
    output, with f(x) = up(relu(down(LN(x)))), where up is zero at first. The attributes
    are those of `BottleneckMethod`. The scale "learnable" trains one scalar for each
    site together with the other parameters, starting at 1, as LIFT does (Shi et al.
    2024, https://arxiv.org/abs/2309.10019).

    Example:
        >>> import timm
        >>> from rsft.peft import AdaptFormer, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> adapted = attach(vit, AdaptFormer(dim=8, blocks="last:1"))
        >>> sum(parameter.numel() for parameter in adapted.theta)
        3656
    """

    name: ClassVar = "adaptformer"
    title: ClassVar = "AdaptFormer"

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build one bottleneck for every selected block.

        The norm of a block must come before its MLP.
        """
        from rsft.peft.modules.scaled import BottleneckModule

        return [BottleneckModule(self, vit, parallel=True)]


@registry.register
@dataclass(frozen=True)
class LoRAWithAdaptFormer(LowRankMethod):
    """LoRA and AdaptFormer together, which the paper's Table S2 counts as LoRA.

    `dim` and `adapter_scale` are the settings of AdaptFormer, `blocks` and `modulator`
    of both, and the others of LoRA.

    Example:
        >>> LoRAWithAdaptFormer(rank=4, dim=8).title
        'LoRA + AdaptFormer'
    """

    name: ClassVar = "lora+adaptformer"
    title: ClassVar = "LoRA + AdaptFormer"

    dim: Dim = 4
    adapter_scale: Annotated[
        ScaleSetting,
        Setting("fixed scale of AdaptFormer in combination with LoRA", gt=0),
    ] = 1.0

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the modules of both methods."""
        from rsft.peft.modules.scaled import LoRAModule

        adaptformer = AdaptFormer(
            self.dim, self.blocks, self.adapter_scale, modulator=self.modulator
        )
        return [LoRAModule(self, vit), *adaptformer.build_modules(vit)]


@registry.register
@dataclass(frozen=True)
class VPTShallow:
    """Prompts at the input of the first block.

    Source: Jia et al. 2022, https://arxiv.org/abs/2203.12119.

    Prompts are learned tokens between the prefix tokens and the patch tokens.

    Example:
        >>> import timm
        >>> from rsft.peft import VPTShallow, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> adapted = attach(vit, VPTShallow(prompts=10))
        >>> sum(parameter.numel() for parameter in adapted.theta)
        1920
    """

    name: ClassVar = "vpt-shallow"
    title: ClassVar = "VPT-Shallow"
    is_identity_at_init: ClassVar = False

    prompts: Prompts = 10
    dropout: TokenDropout = 0.0

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the prompts of the first block, (prompts, D)."""
        from rsft.peft.modules.unscaled import PromptModule

        return [PromptModule(vit, self.prompts, (0,), self.dropout)]


@registry.register
@dataclass(frozen=True)
class VPTDeep:
    """Prompts at the input of every selected block.

    They replace the prompts of the selected block before.

    Prompts pass through the blocks that are not selected (Jia et al. 2022,
    https://arxiv.org/abs/2203.12119).

    Example:
        >>> import timm
        >>> from rsft.peft import VPTDeep, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> adapted = attach(vit, VPTDeep(prompts=10, blocks="last:3"))
        >>> sum(parameter.numel() for parameter in adapted.theta)
        5760
    """

    name: ClassVar = "vpt-deep"
    title: ClassVar = "VPT-Deep"
    is_identity_at_init: ClassVar = False

    prompts: Prompts = 10
    blocks: Blocks = "all"
    dropout: TokenDropout = 0.0

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build the prompts of every selected block, (prompts, D) each."""
        from rsft.peft.modules.adapter_module import transformer_blocks
        from rsft.peft.modules.unscaled import PromptModule

        blocks = select_blocks(self.blocks, len(transformer_blocks(vit)))
        return [PromptModule(vit, self.prompts, blocks, self.dropout)]


@dataclass(frozen=True)
class SelectiveMethod:
    """A method that trains some of the network's own parameters.

    Attributes:
        blocks: "all", which includes layers outside of the blocks such as the final
            norm, or a selection of blocks.
    """

    name: ClassVar[str]
    is_identity_at_init: ClassVar = True

    blocks: Blocks = "all"

    def trains(self, module: nn.Module, parameter: str) -> bool:
        """Return whether the method trains a parameter of a module, such as "bias"."""
        raise NotImplementedError

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build trained copies of the selected parameters."""
        from rsft.peft.modules.unscaled import SelectiveTuning

        return [SelectiveTuning(vit, self.name, self.blocks, self.trains)]


@registry.register
@dataclass(frozen=True)
class BitFit(SelectiveMethod):
    """Training of every bias (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199).

    "all" blocks include the patch embedding and the final norm. "every:1" trains the
    biases of all blocks alone, as LIFT does.

    Example:
        >>> import timm
        >>> from rsft.peft import BitFit, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> adapted = attach(vit, BitFit(blocks="last:1"))
        >>> sum(parameter.numel() for parameter in adapted.theta)
        2112
    """

    name: ClassVar = "bitfit"
    title: ClassVar = "BitFit"

    def trains(self, module: nn.Module, parameter: str) -> bool:
        """Return whether the parameter is a bias."""
        return parameter.endswith("bias")


@registry.register
@dataclass(frozen=True)
class LayerNormTuning(SelectiveMethod):
    """Training of weight and bias of every normalization.

    Source: Zhao et al. 2024, https://arxiv.org/abs/2312.11420.

    Example:
        >>> import timm
        >>> from rsft.peft import LayerNormTuning, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> adapted = attach(vit, LayerNormTuning(blocks="last:1"))
        >>> sum(parameter.numel() for parameter in adapted.theta)
        768
    """

    name: ClassVar = "layernorm"
    title: ClassVar = "LayerNorm tuning"

    def trains(self, module: nn.Module, parameter: str) -> bool:
        """Return whether the class name of the module contains "norm"."""
        return "norm" in type(module).__name__.lower()


@registry.register
@dataclass(frozen=True)
class SSF:
    """Scale and shift, y * scale + shift, after embedding, norms and linear layers.

    Source: Lian et al. 2022.

    Source: https://arxiv.org/abs/2210.08823. Scale and shift start at 1 and 0, so that
    attaching the method does not change the outputs. The authors draw them from normal
    distributions around these values.

    Attributes:
        blocks: "all", which includes the patch embedding and the final norm, or a
            selection of blocks.

    Example:
        >>> import timm
        >>> from rsft.peft import SSF, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> adapted = attach(vit, SSF(blocks="last:1"))
        >>> sum(parameter.numel() for parameter in adapted.theta)
        4224
    """

    name: ClassVar = "ssf"
    title: ClassVar = "SSF"
    is_identity_at_init: ClassVar = True

    blocks: Blocks = "all"

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build one scale and one shift for every feature of every selected layer."""
        from rsft.peft.modules.unscaled import ScaleShiftModule

        return [ScaleShiftModule(vit, self.blocks)]


@registry.register
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

    name: ClassVar = "linear-probe"
    title: ClassVar = "Linear probe"
    is_identity_at_init: ClassVar = True

    def build_modules(self, vit: nn.Module) -> list[AdapterModule]:
        """Build no modules."""
        return []


@registry.register
@dataclass(frozen=True)
class FullTuning(SelectiveMethod):
    """Training of every parameter of the network except its classifier.

    Example:
        >>> import timm
        >>> from rsft.peft import FullTuning, attach
        >>> vit = timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> adapted = attach(vit, FullTuning(blocks="last:1"))
        >>> sum(parameter.numel() for parameter in adapted.theta)
        444864
    """

    name: ClassVar = "full"
    title: ClassVar = "Full fine-tuning"

    def trains(self, module: nn.Module, parameter: str) -> bool:
        """Return True for every parameter."""
        return True
