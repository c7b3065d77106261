"""Train some of the network's own parameters, or scale and shift its features (SSF)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rsft.peft.modules.adapter_module import (
    AdapterModule,
    find_submodule,
    mangle_name,
    named_blocks,
    require_tokens,
    trainable_kwargs,
)
from rsft.peft.sites import select_blocks

_LAYERS = ("norm1", *(f"attn.{name}" for name in ("qkv", "q_proj", "k_proj", "v_proj", "proj")))
_LAYERS = (*_LAYERS, "norm2", *(f"mlp.{name}" for name in ("fc1", "fc1_g", "fc1_x", "fc2")))


class SelectiveTuning(AdapterModule):
    """Trained copies that replace some of the network's parameters; the frozen originals do not change.

    Args:
        vit: a timm vision transformer.
        method: name of the method, for messages.
        blocks: a selection of blocks; "all" includes parameters outside of the blocks, except those of `head`.
        is_trained: called with a module and the name of one of its parameters; returns whether to train it.

    Raises:
        ValueError: the network has no parameter to train.
    """

    def __init__(
        self, vit: nn.Module, method: str, blocks: str | Sequence[int], is_trained: Callable[[nn.Module, str], bool]
    ) -> None:
        super().__init__()
        all_blocks = [f"{path}." for path in named_blocks(vit)]
        selected = tuple(all_blocks[index] for index in select_blocks(blocks, len(all_blocks)))
        self._replaced: dict[str, tuple[nn.Module, str, nn.Parameter]] = {}
        for module_path, module in vit.named_modules():
            is_selected = blocks == "all" or f"{module_path}.".startswith(selected)
            if not is_selected or module_path.split(".")[0] == "head":
                continue
            for name, parameter in module.named_parameters(recurse=False):
                if is_trained(module, name):
                    path = f"{module_path}.{name}" if module_path else name
                    self._replaced[path] = (module, name, parameter)
                    trained = nn.Parameter(parameter.detach().clone().to(**trainable_kwargs(parameter)))
                    self.register_parameter(mangle_name(path), trained)
        if not self._replaced:
            raise ValueError(f"{type(vit).__name__} has no parameter that {method} trains")

    def inject(self) -> None:
        """Replace the frozen parameters by the trained ones."""
        for path, (module, name, frozen) in self._replaced.items():
            setattr(module, name, self.get_parameter(mangle_name(path)))
            self.add_undo(path, partial(_restore_parameter, module, name, frozen))

    @torch.no_grad()
    def merge(self) -> None:
        """Copy the trained values into the network's own parameters."""
        self.remove()
        for path, (_, _, frozen) in self._replaced.items():
            frozen.copy_(self.get_parameter(mangle_name(path)))


def _restore_parameter(module: nn.Module, name: str, frozen: nn.Parameter) -> None:
    """Replace the trained parameter by the frozen one, moved to the device of the trained one."""
    frozen.data = frozen.data.to(getattr(module, name).device)
    setattr(module, name, frozen)


class ScaleShiftModule(AdapterModule):
    """Scale and shift, y * scale + shift, of the output features of some layers; layers with a bias can absorb them.

    Args:
        vit: a timm vision transformer.
        blocks: a selection of blocks, whose norms and linear layers are changed; "all" includes the patch embedding and
            the final norm.

    Raises:
        ValueError: the network lacks a block, or is hierarchical.
    """

    merge_last = True

    def __init__(self, vit: nn.Module, blocks: str | Sequence[int]) -> None:
        super().__init__()
        require_tokens(vit, "ssf", "the layers that it scales have other names there")
        selected = select_blocks(blocks, len(named_blocks(vit)))
        names = [f"blocks.{block}.{layer}" for block in selected for layer in _LAYERS]
        if blocks == "all":
            embed = [name for name, module in vit.named_modules() if isinstance(module, nn.Conv2d)]
            names = [*(name for name in embed if name.startswith("patch_embed.")), *names, "norm"]
        layers: dict[str, Any] = {name: find_submodule(vit, name) for name in names}
        self._layers = {
            name: layer for name, layer in layers.items() if isinstance(getattr(layer, "weight", None), Tensor)
        }
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
