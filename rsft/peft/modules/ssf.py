"""SSF: a learned scale and shift for every output feature of a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from rsft.peft.modules.adapter_module import (
    AdapterModule,
    mangle_name,
    require_tokens,
    trainable_kwargs,
    transformer_blocks,
)
from rsft.peft.sites import select_blocks

_LAYERS = ("norm1", *(f"attn.{name}" for name in ("qkv", "q_proj", "k_proj", "v_proj", "proj")))
_LAYERS = (*_LAYERS, "norm2", *(f"mlp.{name}" for name in ("fc1", "fc1_g", "fc1_x", "fc2")))


class ScaleShiftModule(AdapterModule):
    """Scale and shift, y * scale + shift, of the output features of some layers; layers with a bias can absorb them.

    Args:
        layers: name -> layer, which has a weight.
    """

    merge_last = True

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._layers = cast(dict[str, Any], dict(layers))
        for name, layer in self._layers.items():
            width, options = len(layer.weight), trainable_kwargs(layer.weight)
            self.register_parameter(mangle_name(f"{name}.scale"), nn.Parameter(torch.ones(width, **options)))
            self.register_parameter(mangle_name(f"{name}.shift"), nn.Parameter(torch.zeros(width, **options)))

    def inject(self) -> None:
        """Hook the layers to change their outputs."""
        for name, layer in self._layers.items():
            self.add_undo(name, layer.register_forward_hook(partial(self._scale_and_shift, name)).remove)

    def _scale_and_shift(self, name: str, layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        scale, shift = self._parameters_of(name)
        if isinstance(layer, nn.Conv2d):  # its features come before height and width
            scale, shift = scale[:, None, None], shift[:, None, None]
        return output * scale.to(output.dtype) + shift.to(output.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """Replace W by scale W and b by scale b + shift in every layer that has a bias."""
        foldable = [name for name in self.placements if getattr(self._layers[name], "bias", None) is not None]
        for name in foldable:
            layer, (scale, shift) = self._layers[name], self._parameters_of(name)
            layer.weight.copy_(layer.weight.to(scale.dtype) * scale.view(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.copy_(layer.bias.to(scale.dtype) * scale + shift)
        self.remove(foldable)

    def _parameters_of(self, name: str) -> tuple[Tensor, Tensor]:
        return self.get_parameter(mangle_name(f"{name}.scale")), self.get_parameter(mangle_name(f"{name}.shift"))


def build_scale_shift(vit: nn.Module, blocks: str | Sequence[int]) -> ScaleShiftModule:
    """Build one scale and one shift for every feature of the selected blocks' norms and linear layers.

    Args:
        vit: a timm vision transformer.
        blocks: a selection of blocks; "all" includes the patch embedding and the final norm.

    Returns:
        A module on the device of `vit`, not injected.

    Raises:
        ValueError: the network lacks a block, or is hierarchical.
    """
    require_tokens(vit, "ssf", "the layers that it scales have other names there")
    selected = select_blocks(blocks, len(transformer_blocks(vit)))
    names = [f"blocks.{block}.{layer}" for block in selected for layer in _LAYERS]
    if blocks == "all":
        embed = [name for name, module in vit.named_modules() if isinstance(module, nn.Conv2d)]
        names = [*(name for name in embed if name.startswith("patch_embed.")), *names, "norm"]
    return ScaleShiftModule({name: layer for name in names if (layer := _weighted_layer(vit, name)) is not None})


def _weighted_layer(vit: nn.Module, name: str) -> nn.Module | None:
    try:
        layer = vit.get_submodule(name)
    except AttributeError:
        return None
    return layer if isinstance(getattr(layer, "weight", None), Tensor) else None
