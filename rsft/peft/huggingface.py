"""Write and read low-rank adapters in the layout of Hugging Face PEFT's LoRA.

The layout is a folder with adapter_config.json and adapter_model.safetensors
(https://huggingface.co/docs/peft/developer_guides/checkpoint). In PEFT a layer has one
A (r, width_in), one B (width_out, r) and a factor alpha / r; a convolution has A (r,
in, h, w) and B (width_out, r, 1, 1). The sites of a fused qkv become one pair: their A
matrices are stacked, and B holds their B matrices as blocks at the rows of each site,
with zeros elsewhere. B includes the scales, so alpha = r.

A sequential module at out adds m B A (W h + b). It is written with the factor A W, and
its constant m B A b as the bias of lora_B (`lora_bias`, PEFT 0.14 or later). An adapter
with such biases is read as LoRA together with BitFit.

The layout cannot hold adapters, prompts or trained parameters of the network, nor
dropouts that differ between layers.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from rsft.peft.methods.builtin import BitFit, LoRA
from rsft.peft.methods.registry import CompositeMethod, Method
from rsft.peft.model.adapted_model import AdaptedModel
from rsft.peft.model.attach import attach
from rsft.peft.model.state_files import (
    read_tensors,
    write_bytes_atomically,
    write_tensors,
)
from rsft.peft.modules.adapter_module import find_target_layers
from rsft.peft.modules.scaled import LowRankConv2d, LowRankLinear, LowRankModule
from rsft.peft.settings import PositionSetting
from rsft.peft.sites import Site

_CONFIG_FILE = "adapter_config.json"
_WEIGHTS_FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_WRAPPER = "timm_model."  # transformers keeps a network of timm under this name
_BIAS = ".lora_B.bias"
# metadata of the weights: the rank of every site of a layer, in the order of A
_SITES = "rsft.sites"
_UNSUPPORTED_KEYS = (
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
)
# other named initializations change the frozen weights
_SUPPORTED_INITS = (
    "gaussian",
    "orthogonal",
    "eva",
)

Factors = tuple[Tensor, Tensor]
"""A (r, width_in), of a convolution (r, in, h, w), and B (width_out, r)."""


def export_peft(
    adapted: AdaptedModel, folder: Path | str, base: str | None = None
) -> None:
    """Write the low-rank additions, at their current scales, as a PEFT adapter.

    Args:
        adapted: a model with attached PEFT modules, all of them low-rank additions.
        folder: the folder of the adapter; it is created if needed.
        base: name of the frozen network, which PEFT reads as base_model_name_or_path.

    Raises:
        ValueError: the layout cannot hold a module, or no low-rank addition is
            attached.

    Example:
        >>> import tempfile, timm
        >>> from rsft.peft import LoRA, attach
        >>> create = lambda: timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_peft(attach(create(), LoRA(rank=2, positions="qv")), folder)
        ...     len(import_peft(create(), folder).sites)
        24
    """
    others = sorted(
        {
            type(m).__name__
            for m in adapted.adapter_modules
            if not isinstance(m, LowRankModule)
        }
    )
    if others:
        raise ValueError(
            "the layout of PEFT's LoRA holds only low-rank additions, not"
            f" {', '.join(others)}"
        )
    layers = {
        name: x
        for name, x in adapted.vit.named_modules()
        if isinstance(x, LowRankLinear | LowRankConv2d)
    }
    if not layers:
        raise ValueError(
            "no low-rank addition is attached: export before detach and merge"
        )
    dropouts = {
        module.dropouts[site]
        for layer in layers.values()
        for site, module in layer.adapters.items()
    }
    if len(dropouts) > 1:
        raise ValueError(
            f"dropouts {sorted(dropouts)}: the layout of PEFT's LoRA has one for all"
            " layers"
        )
    tensors = {}
    sites = {}
    has_bias = any(
        delta.shift is not None for layer in layers.values() for delta in layer.deltas()
    )
    for name, layer in layers.items():
        key = f"{_PREFIX}{name}.lora_"
        tensors[f"{key}A.weight"], tensors[f"{key}B.weight"], bias = _combine_sites(
            layer
        )
        tensors |= {f"{key}B.bias": bias} if has_bias else {}
        ranks = {
            site: len(module.factors(site)[0])
            for site, module in layer.adapters.items()
        }
        sites[name] = {site.position: rank for site, rank in ranks.items()}
    config = _build_config(
        {name: sum(ranks.values()) for name, ranks in sites.items()}, dropouts.pop()
    )
    config["base_model_name_or_path"] = base
    # PEFT before 0.14 does not know the key
    config |= {"lora_bias": True} if has_bias else {}
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_tensors(
        Path(folder) / _WEIGHTS_FILE,
        tensors,
        {"format": "pt", _SITES: json.dumps(sites)},
    )
    write_bytes_atomically(
        Path(folder) / _CONFIG_FILE, json.dumps(config, indent=2).encode()
    )


def import_peft(
    vit: nn.Module, folder: Path | str, head: dict[str, Tensor] | None = None
) -> AdaptedModel:
    """Attach a LoRA adapter that PEFT or `export_peft` wrote.

    A fused qkv whose factors are not made of blocks becomes three sites with the same
    A. If lora_B has biases, the biases of the network's blocks become trained
    parameters, which start at the sum.

    Args:
        vit: a network like the one on which the adapter was learned.
        folder: the folder of the adapter.
        head: takes the tensors of the one module in modules_to_save, such as "weight";
            None refuses such a module.

    Returns:
        The network with the adapter.

    Raises:
        FileNotFoundError: the folder has no adapter.
        ValueError: the adapter is not a LoRA or has an unsupported option, or the
            network lacks one of its layers.

    Example:
        >>> import tempfile, timm
        >>> from rsft.peft import LoRA, attach
        >>> create = lambda: timm.create_model("vit_tiny_patch16_224", img_size=32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_peft(attach(create(), LoRA(rank=2, positions="qv")), folder)
        ...     len(import_peft(create(), folder).sites)
        24
    """
    config = _read_config(Path(folder) / _CONFIG_FILE)
    tensors, metadata, wrapper = _read_adapter(Path(folder) / _WEIGHTS_FILE)
    _take_head(
        tensors,
        [name.removeprefix(wrapper) for name in config.get("modules_to_save") or ()],
        head,
        folder,
    )
    site_ranks = json.loads(metadata.get(_SITES, "{}"))
    names = {id(module): name for name, module in vit.named_modules()}
    # name of a layer -> site -> rows of the layer's output
    layers: dict[str, dict[Site, slice]] = {}
    for site, target in find_target_layers(vit).items():
        layers.setdefault(names[id(target.layer)], {})[site] = target.rows
    state: dict[str, Tensor] = {}
    scales: dict[str, float] = {}
    biases = {key: tensors.pop(key) for key in tuple(tensors) if key.endswith(_BIAS)}
    biases = {
        key.removesuffix(_BIAS): bias for key, bias in biases.items() if bias.any()
    }
    factors_by_layer = _factors_by_layer(tensors, folder)
    unmatched = sorted(set(biases) - set(factors_by_layer))
    if unmatched:
        raise ValueError(f"{folder}: A or B is missing at {unmatched[0]}")
    for name, (a, b) in factors_by_layer.items():
        if name not in layers:
            raise ValueError(f"{folder}: {type(vit).__name__} has no site at {name}")
        for site, factors in _separate_sites(
            a, b, layers[name], site_ranks.get(name, {})
        ).items():
            state[f"{site}.a"], state[f"{site}.b"] = factors
            scales[str(site)] = _layer_scale(config, wrapper + name, len(a))
        if name in biases:
            biases[name] *= _layer_scale(config, wrapper + name, len(a))
    sites = [
        site
        for layer_sites in layers.values()
        for site in layer_sites
        if str(site) in scales
    ]
    method: Method = LoRA(
        rank={str(site): len(state[f"{site}.a"]) for site in sites} | {"*": 0},
        positions=cast(
            PositionSetting, tuple(dict.fromkeys(site.position for site in sites))
        ),
        blocks=sorted({site.block for site in sites}),
        scale=scales,
        dropout=float(config.get("lora_dropout", 0)),
    )
    if biases:
        blocks = sorted({site.block for name in biases for site in layers[name]})
        method = CompositeMethod((method, BitFit(blocks)))
    adapted = attach(vit, method)
    try:
        adapted.load_adapter_state(_with_biases(state, biases, adapted.adapter_state()))
    except ValueError as error:
        adapted.detach()
        raise ValueError(f"{folder}: {error}") from error
    return adapted


def bypasses_peft(adapted: AdaptedModel) -> bool:
    """Return whether timm reads the weight of an adapted qkv layer itself.

    PEFT's layer then has no effect.

    Attention with q_bias (EVA-02, Swin V2, BEiT) does so, unless its qkv_bias_separate
    is set.
    """
    attention = [
        module
        for module in adapted.vit.modules()
        if getattr(module, "q_bias", None) is not None
    ]
    return any(isinstance(module.qkv, LowRankLinear) for module in attention)


@torch.no_grad()
def _combine_sites(
    layer: LowRankLinear | LowRankConv2d,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return A, B and the bias of B of all sites of a layer in PEFT's shapes.

    B and its bias contain the scales.
    """
    deltas = layer.deltas()
    b = torch.zeros(
        len(layer.weight),
        sum(len(delta.a) for delta in deltas),
        dtype=deltas[0].b.dtype,
    )
    start = 0
    bias = b.new_zeros(len(b))
    for delta in deltas:
        columns = slice(start, start := start + len(delta.a))
        b[delta.rows, columns] = delta.b.cpu() * torch.as_tensor(delta.scale).cpu()
        if delta.shift is not None:
            bias[delta.rows] += b[delta.rows, columns] @ delta.shift.cpu()
    a = torch.cat([delta.a.cpu() for delta in deltas])
    return a, b if a.ndim == 2 else b[:, :, None, None], bias


def _with_biases(
    state: dict[str, Tensor], biases: Mapping[str, Tensor], current: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the state of LoRA, and the trained biases plus those of lora_B."""
    for name, bias in biases.items():
        if f"{name}.bias" not in current:
            raise ValueError(f"{name} has no bias, so that of lora_B has no place")
        state[f"{name}.bias"] = current[f"{name}.bias"] + bias
    if biases:
        return current | state
    return state


def _separate_sites(
    a: Tensor, b: Tensor, sites: Mapping[Site, slice], ranks: Mapping[str, int]
) -> dict[Site, Factors]:
    """Return the factors of each site of a layer.

    A site has its blocks if B consists of blocks, else A and its rows of B.
    """
    blocks = {}
    remainder = b.clone()
    start = 0
    for site, rows in sites.items():
        stop = start + ranks.get(site.position, 0)
        if stop > start:
            blocks[site] = (a[start:stop], b[rows, start:stop])
            remainder[rows, start:stop] = 0
        start = stop
    if start == len(a) and not remainder.any():
        return blocks
    nonzero = {site: rows for site, rows in sites.items() if b[rows].any()}
    return {site: (a, b[rows]) for site, rows in (nonzero or sites).items()}


def _read_adapter(path: Path) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Return the tensors by their name in timm, the metadata, and a module's name.

    That module is around the network.
    """
    stored, metadata = read_tensors(path)
    stored = {key.removeprefix(_PREFIX): tensor for key, tensor in stored.items()}
    if all(key.startswith(_WRAPPER) for key in stored):
        wrapper = _WRAPPER
    else:
        wrapper = ""
    return (
        {key.removeprefix(wrapper): tensor for key, tensor in stored.items()},
        metadata,
        wrapper,
    )


def _take_head(
    tensors: dict[str, Tensor],
    saved: list[str],
    head: dict[str, Tensor] | None,
    folder: object,
) -> None:
    """Move the tensors of the module in modules_to_save from `tensors` to `head`."""
    if saved and (head is None or len(saved) > 1):
        raise ValueError(
            f"{folder}: modules_to_save has {', '.join(saved)}, which is not one"
            " classifier head"
        )
    for name in saved:
        for key in [key for key in tensors if key.startswith(f"{name}.")]:
            cast(dict[str, Tensor], head)[key.removeprefix(f"{name}.")] = tensors.pop(
                key
            )


def _factors_by_layer(
    tensors: Mapping[str, Tensor], folder: object
) -> dict[str, Factors]:
    """Return layer name -> A and B."""
    pattern = re.compile(r"(.+)\.lora_([AB])\.weight")
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = pattern.fullmatch(key)
        if match is None:
            raise ValueError(f"{folder}: {key} is neither lora_A nor lora_B of a layer")
        layers.setdefault(match[1], {})[match[2]] = tensor
    incomplete = [name for name, factors in layers.items() if len(factors) < 2]
    if incomplete or not layers:
        raise ValueError(
            f"{folder}: A or B is missing{' at ' + incomplete[0] if incomplete else ''}"
        )
    return {
        name: (factors["A"], factors["B"].flatten(1))
        for name, factors in layers.items()
    }


def _build_config(ranks: Mapping[str, int], dropout: float) -> dict[str, Any]:
    most_common = Counter(ranks.values()).most_common(1)[0][0]
    exceptions = {
        re.escape(name): rank for name, rank in ranks.items() if rank != most_common
    }
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "task_type": None,
        "inference_mode": True,
        "target_modules": "|".join(map(re.escape, ranks)),
        "r": most_common,
        "rank_pattern": exceptions,
        "lora_alpha": most_common,
        "alpha_pattern": exceptions,
        "lora_dropout": dropout,
        "bias": "none",
        "fan_in_fan_out": False,
    }


def _layer_scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    """Return alpha / r of a layer, or alpha / sqrt r of a rank-stabilized adapter."""
    patterns = config.get("alpha_pattern") or {}
    matching = [
        alpha
        for pattern, alpha in patterns.items()
        if re.match(rf"(.*\.)?({pattern})$", name)
    ]
    alpha = matching[0] if matching else config["lora_alpha"]
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _read_config(path: Path) -> dict[str, Any]:
    """Read the configuration of a LoRA.

    Options that change the meaning of A and B are an error.
    """
    try:
        config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{path}: a {config.get('peft_type')} adapter, not a LoRA")
    unsupported = [
        key
        for key, value in config.items()
        if key.startswith("use_") and value and key != "use_rslora"
    ]
    unsupported += [key for key in _UNSUPPORTED_KEYS if config.get(key)]
    if (
        isinstance(config.get("init_lora_weights"), str)
        and config["init_lora_weights"] not in _SUPPORTED_INITS
    ):
        unsupported.append("init_lora_weights")
    if unsupported:
        raise ValueError(f"{path}: unsupported options: {', '.join(unsupported)}")
    return config
