"""SSF: scale and shift of what every layer puts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from rsft.peft.methods.adapter_module import Part, slashed, trained_type
from rsft.peft.methods.registry import register
from rsft.peft.sites import blocks_of, select_blocks

_LAYERS = ("norm1", *(f"attn.{name}" for name in ("qkv", "q_proj", "k_proj", "v_proj", "proj")))
_LAYERS = (*_LAYERS, "norm2", *(f"mlp.{name}" for name in ("fc1", "fc1_g", "fc1_x", "fc2")))


@register
@dataclass(frozen=True)
class SSF:
    """y * scale + shift behind patch embedding, norms and linear layers (Lian et al. 2022,
    https://arxiv.org/abs/2210.08823). It starts at 1 and 0, where the authors draw around them, so that attaching it
    changes nothing.

    Attributes:
        blocks: "all", which counts the patch embedding and the final norm in, or a choice of blocks alone.
    """

    name: ClassVar[str] = "ssf"
    blocks: str | Sequence[int] = "all"

    def parts(self, vit: nn.Module) -> list[ScaleShift]:
        """One scale and one shift a feature and layer."""
        chosen = select_blocks(self.blocks, len(blocks_of(vit)))
        names = [f"blocks.{block}.{layer}" for block in chosen for layer in _LAYERS]
        if self.blocks == "all":
            embed = [name for name, module in vit.named_modules() if isinstance(module, nn.Conv2d)]
            names = [*(name for name in embed if name.startswith("patch_embed.")), *names, "norm"]
        return [ScaleShift({name: layer for name in names if (layer := _find(vit, name)) is not None})]


class ScaleShift(Part):
    """y * scale + shift on the features of some layers; folded into those that have a bias."""

    folds_last = True

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self._layers = cast(dict[str, Any], layers)
        for name, layer in self._layers.items():
            width, options = len(layer.weight), trained_type(layer.weight)
            self.register_parameter(slashed(f"{name}.scale"), nn.Parameter(torch.ones(width, **options)))
            self.register_parameter(slashed(f"{name}.shift"), nn.Parameter(torch.zeros(width, **options)))

    def put_on(self) -> None:
        """Hook the layers."""
        for name, layer in self._layers.items():
            self.placed(name, layer.register_forward_hook(partial(self._change, name)).remove)

    def _change(self, name: str, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        scale, shift = self._pair(name)
        if isinstance(layer, nn.Conv2d):  # its features come before height and width
            scale, shift = scale[:, None, None], shift[:, None, None]
        return output * scale.to(output.dtype) + shift.to(output.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """W and b become scale W and scale b + shift."""
        foldable = [name for name in self.places if getattr(self._layers[name], "bias", None) is not None]
        for name in foldable:
            layer, (scale, shift) = self._layers[name], self._pair(name)
            layer.weight.copy_(layer.weight.to(scale.dtype) * scale.view(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.copy_(layer.bias.to(scale.dtype) * scale + shift)
        self.take_off(foldable)

    def _pair(self, name: str) -> tuple[Tensor, Tensor]:
        return self.get_parameter(slashed(f"{name}.scale")), self.get_parameter(slashed(f"{name}.shift"))


def _find(vit: nn.Module, name: str) -> nn.Module | None:
    """A layer with weights, or None."""
    try:
        layer = vit.get_submodule(name)
    except AttributeError:
        return None
    return layer if isinstance(getattr(layer, "weight", None), Tensor) else None
