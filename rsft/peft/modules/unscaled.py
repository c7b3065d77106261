"""Modules without scales: prompts, trained parameters, and scale and shift (SSF)."""

import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.peft.modules import adapter_module
from rsft.peft.modules.adapter_module import (
    AdapterModule,
    NamedTensors,
    Tensors,
    mangle_name,
    named_blocks,
    require_tokens,
    trainable_kwargs,
)
from rsft.peft.sites import select_blocks


class PromptModule(AdapterModule):
    """Learned tokens after the prefix tokens.

    They are removed after the last block, so the output keeps its layout.

    Unlike additive modules, prompts change the outputs from the start: no prompt leaves
    attention unchanged.

    Args:
        vit: a timm vision transformer.
        prompts: number of prompts in every selected block.
        blocks: indices of the blocks that receive new prompts at their input.
        dropout: rate on the prompts.

    Raises:
        ValueError: the network takes no further tokens.
    """

    def __init__(
        self, vit: nn.Module, prompts: int, blocks: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        require_tokens(
            vit,
            "vpt",
            "feature maps, to which no prompt can be added, pass between its blocks",
        )
        self.count = prompts
        self.prompt_blocks = tuple(blocks)
        self.dropout = dropout
        self._blocks: list[Any] = list(adapter_module.transformer_blocks(vit))
        fault = _prompt_fault(vit, self._blocks)
        if fault:
            raise ValueError(f"{type(vit).__name__} takes no prompts: {fault}")
        network: Any = vit
        self._prefix = int(network.num_prefix_tokens)
        embed = network.patch_embed
        width = int(network.embed_dim)
        # Xavier-uniform as in the authors' code: fan-in is a patch of three planes,
        # fan-out the width
        bound = math.sqrt(6 / (3 * math.prod(embed.patch_size) + width))
        options = trainable_kwargs(next(vit.parameters()))
        for block in self.prompt_blocks:
            prompt = torch.empty(prompts, width, **options).uniform_(-bound, bound)
            self.register_parameter(_parameter_name(block), nn.Parameter(prompt))

    def inject(self) -> None:
        """Hook the selected blocks and the last block.

        Rotary embeddings skip prompts, as they skip prefix tokens.
        """
        first, last = self.prompt_blocks[0], self._blocks[-1]
        for block in self.prompt_blocks:
            hook = self._blocks[block].register_forward_pre_hook(
                partial(self._insert_prompts, block)
            )
            self.add_undo(f"blocks.{block}.prompts", hook.remove)
        undo = [last.register_forward_hook(self._remove_prompts).remove]
        for block in self._blocks[first:]:
            attn: Any = getattr(block, "attn", None)
            if hasattr(attn, "num_prefix_tokens"):
                undo.append(
                    partial(setattr, attn, "num_prefix_tokens", attn.num_prefix_tokens)
                )
                attn.num_prefix_tokens += self.count
        self.add_undo(f"blocks.{len(self._blocks) - 1}.exit", *undo)

    def _insert_prompts(self, block: int, module: nn.Module, args: Tensors) -> Tensors:
        x, *other_args = args
        # a trace makes len(x) constant
        prompts = self.get_parameter(_parameter_name(block)).expand(x.shape[0], -1, -1)
        prompts = F.dropout(prompts, self.dropout, self.training).to(x.dtype)
        patches = self._prefix + (self.count if block != self.prompt_blocks[0] else 0)
        return (
            torch.cat([x[:, : self._prefix], prompts, x[:, patches:]], dim=1),
            *other_args,
        )

    def _remove_prompts(
        self, module: nn.Module, args: Tensors, output: Tensor
    ) -> Tensor:
        return torch.cat(
            [output[:, : self._prefix], output[:, self._prefix + self.count :]], dim=1
        )


def _prompt_fault(vit: nn.Module, blocks: Sequence[Any]) -> str | None:
    """Return why a network cannot take more tokens, or None if it can."""
    for path in ("embed_dim", "num_prefix_tokens", "patch_embed.patch_size"):
        module: Any = vit
        for name in path.split("."):
            module = getattr(module, name, None)
        if module is None:
            return f"it has no {path}"
    for path, module in vit.named_modules():
        has_table = getattr(module, "relative_position_bias_table", None) is not None
        if has_table or type(module).__name__.startswith(
            ("RelPosMlp", "RelPosBias", "RelativePosition")
        ):
            return f"{path} has a bias for each pair of its own tokens"
    parameters = list(inspect.signature(blocks[0].forward).parameters.values())
    needed = [
        parameter.name
        for parameter in parameters[1:]
        if parameter.default is parameter.empty
    ]
    if needed:
        return f"its blocks need {' and '.join(needed)} of the token grid"
    return None


def _parameter_name(block: int) -> str:
    return mangle_name(f"blocks.{block}.prompts")


_LAYERS = (
    "norm1",
    "attn.qkv",
    "attn.q_proj",
    "attn.k_proj",
    "attn.v_proj",
    "attn.proj",
    "norm2",
    "mlp.fc1",
    "mlp.fc1_g",
    "mlp.fc1_x",
    "mlp.fc2",
)


class SelectiveTuning(AdapterModule):
    """Trained copies that replace parameters; the frozen originals do not change.

    Batch norms stay in evaluation mode, unless the network has the attribute
    `trains_batch_norm`. Then the running statistics of those that are trained change in
    training, and belong to the state.

    Args:
        vit: a timm vision transformer.
        method: name of the method, for messages.
        blocks: a selection of blocks; "all" includes parameters outside of the blocks,
            except those of `head`.
        is_trained: called with a module and the name of one of its parameters; returns
            whether to train it.
        modules: dotted names of modules to train instead of blocks.

    Raises:
        ValueError: the network lacks one of the modules, or has no parameter to train.
    """

    def __init__(
        self,
        vit: nn.Module,
        method: str,
        blocks: str | Sequence[int],
        is_trained: Callable[[nn.Module, str], bool],
        *,
        modules: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._replaced: dict[str, tuple[nn.Module, str, nn.Parameter]] = {}
        self._norms: dict[str, Any] = {}
        trains_norms = getattr(vit, "trains_batch_norm", False)
        for module_path, module in _select_modules(vit, method, blocks, modules):
            is_norm = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
            if trains_norms and is_norm and is_trained(module, "weight"):
                self._norms[module_path] = module
            for name, parameter in module.named_parameters(recurse=False):
                if is_trained(module, name):
                    path = f"{module_path}.{name}".lstrip(".")
                    self._replaced[path] = (module, name, parameter)
                    trained = nn.Parameter(
                        parameter.detach().clone().to(**trainable_kwargs(parameter))
                    )
                    self.register_parameter(mangle_name(path), trained)
        if not self._replaced:
            raise ValueError(
                f"{type(vit).__name__} has no parameter that {method} trains"
            )

    def inject(self) -> None:
        """Replace the frozen parameters by the trained ones."""
        for path, (module, name, frozen) in self._replaced.items():
            setattr(module, name, self.get_parameter(mangle_name(path)))
            self.add_undo(path, partial(_restore_parameter, module, name, frozen))
        for path, tensor in self._running_statistics().items():
            norm, _, name = path.rpartition(".")
            self.add_undo(
                path,
                partial(_restore_statistic, self._norms[norm], name, tensor.clone()),
            )

    def _running_statistics(self) -> NamedTensors:
        statistics = {}
        for path, norm in self._norms.items():
            statistics[f"{path}.running_mean"] = norm.running_mean
            statistics[f"{path}.running_var"] = norm.running_var
        return statistics

    def named_tensors(self) -> NamedTensors:
        return super().named_tensors() | self._running_statistics()

    def set_network_training(self, mode: bool, is_kept: Callable[[str], bool]) -> None:
        for path, norm in self._norms.items():
            norm.train(mode and not is_kept(path))

    @torch.no_grad()
    def merge(self) -> None:
        """Copy the trained values into the network's own parameters."""
        self.remove(list(self._replaced))
        for path in self._running_statistics():
            self._undo.pop(path)
        for path, (_, _, frozen) in self._replaced.items():
            frozen.copy_(self.get_parameter(mangle_name(path)))


def _select_modules(
    vit: nn.Module, method: str, blocks: str | Sequence[int], names: Sequence[str]
) -> list[tuple[str, nn.Module]]:
    """Return path and module of those below `names`, else of the selected blocks."""
    for name in names:
        if adapter_module.find_submodule(vit, name) is None:
            raise ValueError(
                f"{type(vit).__name__} has no module {name}, which {method} names"
            )
    modules = list(vit.named_modules())
    if blocks == "all" and not names:
        return [x for x in modules if x[0].split(".")[0] != "head"]
    paths = list(named_blocks(vit))
    roots = names or [paths[index] for index in select_blocks(blocks, len(paths))]
    prefixes = tuple(f"{root}." for root in roots)
    return [x for x in modules if f"{x[0]}.".startswith(prefixes)]


def _restore_statistic(norm: nn.Module, name: str, original: Tensor) -> None:
    norm.get_buffer(name).copy_(original)


def _restore_parameter(module: nn.Module, name: str, frozen: nn.Parameter) -> None:
    """Replace the trained parameter by the frozen one, on the trained one's device."""
    frozen.data = frozen.data.to(getattr(module, name).device)
    setattr(module, name, frozen)


class ScaleShiftModule(AdapterModule):
    """Scale and shift, y * scale + shift, of the output features of some layers.

    Layers with a bias can absorb them.

    Args:
        vit: a timm vision transformer.
        blocks: a selection of blocks, whose norms and linear layers are changed; "all"
            includes the patch embedding and the final norm.

    Raises:
        ValueError: the network lacks a block, or is hierarchical.
    """

    merge_last = True

    def __init__(self, vit: nn.Module, blocks: str | Sequence[int]) -> None:
        super().__init__()
        require_tokens(vit, "ssf", "the layers that it scales have other names there")
        selected = select_blocks(blocks, len(named_blocks(vit)))
        names = [
            f"blocks.{block}.{layer}" for block, layer in product(selected, _LAYERS)
        ]
        if blocks == "all":
            embed = [
                name
                for name, module in vit.named_modules()
                if name.startswith("patch_embed.") and isinstance(module, nn.Conv2d)
            ]
            names = [*embed, *names, "norm"]
        self._layers: dict[str, Any] = {}
        for name in names:
            layer = adapter_module.find_submodule(vit, name)
            weight = getattr(layer, "weight", None)
            if isinstance(weight, Tensor):
                self._layers[name] = layer
                one = torch.ones(len(weight), **trainable_kwargs(weight))
                for kind, start in (("scale", one), ("shift", torch.zeros_like(one))):
                    path = mangle_name(f"{name}.{kind}")
                    self.register_parameter(path, nn.Parameter(start))

    def inject(self) -> None:
        """Hook the layers to change their outputs."""
        for name, layer in self._layers.items():
            self.add_undo(
                name,
                layer.register_forward_hook(
                    partial(self._scale_and_shift, name)
                ).remove,
            )

    def _scale_and_shift(
        self, name: str, layer: nn.Module, args: Tensors, output: Tensor
    ) -> Tensor:
        scale, shift = self._parameters_of(name)
        if isinstance(layer, nn.Conv2d):  # its features come before height and width
            scale = scale[:, None, None]
            shift = shift[:, None, None]
        return output * scale.to(output.dtype) + shift.to(output.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """Replace W by scale W and b by scale b + shift in layers with a bias."""
        foldable = [
            name
            for name in self.placements
            if getattr(self._layers[name], "bias", None) is not None
        ]
        for name in foldable:
            layer = self._layers[name]
            scale, shift = self._parameters_of(name)
            layer.weight.copy_(
                layer.weight.to(scale.dtype)
                * scale.view(-1, *[1] * (layer.weight.ndim - 1))
            )
            layer.bias.copy_(layer.bias.to(scale.dtype) * scale + shift)
        self.remove(foldable)

    def _parameters_of(self, name: str) -> tuple[Tensor, Tensor]:
        scale = self.get_parameter(mangle_name(f"{name}.scale"))
        return scale, self.get_parameter(mangle_name(f"{name}.shift"))
