"""Methods that train some of the network's own parameters: BitFit, LayerNorm tuning, full fine-tuning, linear probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import nn

from rsft.peft.methods.adapter_module import Part, slashed, trained_type
from rsft.peft.methods.registry import register
from rsft.peft.sites import blocks_of, select_blocks


@register
@dataclass(frozen=True)
class BitFit:
    """Every bias (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199).

    Attributes:
        blocks: "all", which counts the patch embedding and the final norm in, or a choice of blocks alone.
    """

    name: ClassVar[str] = "bitfit"
    blocks: str | Sequence[int] = "all"

    def parts(self, vit: nn.Module) -> list[Tuned]:
        """Parameters whose name ends with "bias"."""
        return [Tuned(vit, self.name, self.blocks, lambda module, name: name.endswith("bias"))]


@register
@dataclass(frozen=True)
class LayerNormTuning:
    """Weight and bias of every normalisation (Zhao et al. 2024, https://arxiv.org/abs/2312.11420).

    Attributes:
        blocks: "all", which counts the final norm in, or a choice of blocks alone.
    """

    name: ClassVar[str] = "layernorm"
    blocks: str | Sequence[int] = "all"

    def parts(self, vit: nn.Module) -> list[Tuned]:
        """Parameters of modules of a class whose name has "norm" in it."""
        return [Tuned(vit, self.name, self.blocks, lambda module, name: "norm" in type(module).__name__.lower())]


@register
@dataclass(frozen=True)
class FullTuning:
    """Every parameter of the network but its classifier.

    Attributes:
        blocks: "all", or a choice of blocks alone, such as "last:3".
    """

    name: ClassVar[str] = "full"
    blocks: str | Sequence[int] = "all"

    def parts(self, vit: nn.Module) -> list[Tuned]:
        """All of them."""
        return [Tuned(vit, self.name, self.blocks, lambda module, name: True)]


@register
@dataclass(frozen=True)
class LinearProbe:
    """Nothing of the network: the classifier on top is all that is trained."""

    name: ClassVar[str] = "linear-probe"

    def parts(self, vit: nn.Module) -> list[Part]:
        """None."""
        return []


class Tuned(Part):
    """Trained copies in the place of some of the network's parameters; the frozen ones are kept untouched.

    Args:
        method: its name, for messages.
        blocks: which blocks; "all" counts in what is outside of them. The classifier `head` is never touched.
        wanted: told the module and the parameter's name in it.

    Raises:
        ValueError: there is no such parameter.
    """

    def __init__(
        self,
        vit: nn.Module,
        method: str,
        blocks: str | Sequence[int],
        wanted: Callable[[nn.Module, str], bool],
    ) -> None:
        super().__init__()
        chosen = {f"blocks.{block}" for block in select_blocks(blocks, len(blocks_of(vit)))}
        self._owners: dict[str, tuple[nn.Module, str, nn.Parameter]] = {}
        for path, module in vit.named_modules():
            inside = ".".join(path.split(".")[:2]) in chosen if path.startswith("blocks.") else blocks == "all"
            if not inside or path.split(".")[0] == "head":
                continue
            for name, parameter in module.named_parameters(recurse=False):
                if wanted(module, name):
                    place = f"{path}.{name}" if path else name
                    self._owners[place] = (module, name, parameter)
                    trained = nn.Parameter(parameter.detach().clone().to(**trained_type(parameter)))
                    self.register_parameter(slashed(place), trained)
        if not self._owners:
            raise ValueError(f"{type(vit).__name__} has no parameter that {method} trains")

    def put_on(self) -> None:
        """Put the trained parameters in the place of the frozen ones."""
        for place, (module, name, frozen) in self._owners.items():
            setattr(module, name, self.get_parameter(slashed(place)))
            self.placed(place, partial(_put_back, module, name, frozen))

    @torch.no_grad()
    def merge(self) -> None:
        """The trained values become the network's own."""
        self.take_off()
        for place, (_, _, frozen) in self._owners.items():
            frozen.copy_(self.get_parameter(slashed(place)))


def _put_back(module: nn.Module, name: str, frozen: nn.Parameter) -> None:
    """In the place of the trained parameter, and on the device where that is now."""
    frozen.data = frozen.data.to(getattr(module, name).device)
    setattr(module, name, frozen)
