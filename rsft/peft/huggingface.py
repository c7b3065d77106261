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
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from rsft.peft.kernels import LowRankDelta
from rsft.peft.methods.builtin import BitFit, LoRA
from rsft.peft.methods.registry import CompositeMethod, Method
from rsft.peft.model.adapted_model import AdaptedModel
from rsft.peft.model.attach import attach
from rsft.peft.model.state_files import (
    read_tensors,
    write_bytes_atomically,
    write_tensors,
)
from rsft.peft.modules.adapter_module import NamedTensors, find_target_layers
from rsft.peft.modules.scaled import LowRankConv2d, LowRankLinear, LowRankModule
from rsft.peft.settings import PositionSetting
from rsft.peft.sites import Site, in_forward_order

_CONFIG_FILE = "adapter_config.json"
_WEIGHTS_FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_WRAPPER = "timm_model."  # transformers keeps a network of timm under this name
# metadata of the weights: the rank of every site of a layer, in the order of A
_SITES = "rsft.sites"
_UNSUPPORTED_KEYS = re.compile(
    "use_(?!rslora$).*|alora_invocation_tokens|layer_replication|target_parameters"
    "|trainable_token_indices"
)
# other named initializations change the frozen weights
_SUPPORTED_INITS = (True, False, None, "gaussian", "orthogonal", "eva")

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
    others = {
        type(module).__name__
        for module in adapted.adapter_modules
        if not isinstance(module, LowRankModule)
    }
    if others:
        raise ValueError(
            "the layout of PEFT's LoRA holds only low-rank additions, not"
            f" {', '.join(sorted(others))}"
        )
    layers = {
        name: layer
        for name, layer in adapted.vit.named_modules()
        if isinstance(layer, LowRankLinear | LowRankConv2d)
    }
    if not layers:
        raise ValueError(
            "no low-rank addition is attached: export before detach and merge"
        )
    tensors: NamedTensors = {}
    biases = {}
    ranks = {}
    for name, layer in layers.items():
        key = f"{_PREFIX}{name}.lora_"
        a, b, bias = _combine_deltas(layer.deltas(), len(layer.weight))
        tensors |= {f"{key}A.weight": a, f"{key}B.weight": b}
        biases[f"{key}B.bias"] = bias
        ranks[name] = {
            site.position: len(module.factors(site)[0])
            for site, module in layer.adapters.items()
        }
    config = _build_config(ranks, _single_dropout(layers.values()), base)
    if torch.cat(list(biases.values())).any():
        tensors |= biases
        config["lora_bias"] = True  # PEFT before 0.14 does not know the key
    Path(folder).mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt", _SITES: json.dumps(ranks)}
    write_tensors(Path(folder) / _WEIGHTS_FILE, tensors, metadata)
    write_bytes_atomically(
        Path(folder) / _CONFIG_FILE, json.dumps(config, indent=2).encode()
    )


def _single_dropout(layers: Iterable[LowRankLinear | LowRankConv2d]) -> float:
    adapters = chain.from_iterable(layer.adapters.items() for layer in layers)
    dropouts = {module.dropouts[site] for site, module in adapters}
    if len(dropouts) > 1:
        raise ValueError(
            f"dropouts {sorted(dropouts)}: the layout of PEFT's LoRA has one for all"
            " layers"
        )
    return dropouts.pop()


def import_peft(vit: nn.Module, folder: Path | str) -> AdaptedModel:
    """Attach a LoRA adapter that PEFT or `export_peft` wrote.

    A fused qkv whose factors are not made of blocks becomes three sites with the same
    A. If lora_B has biases, the biases of the network's blocks become trained
    parameters, which start at the sum.

    Args:
        vit: a network like the one on which the adapter was learned.
        folder: the folder of the adapter.

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
    names = {id(module): name for name, module in vit.named_modules()}
    layers: dict[str, dict[Site, slice]] = {}
    for site, target in find_target_layers(vit).items():
        layers.setdefault(names[id(target.layer)], {})[site] = target.rows
    site_ranks = json.loads(metadata.get(_SITES, "{}"))
    state: NamedTensors = {}
    biases = {}
    ranks = {}
    scales = {}
    for name, factors in _factors_by_layer(tensors, folder).items():
        if name not in layers:
            raise ValueError(f"{folder}: {type(vit).__name__} has no site at {name}")
        a = factors["A.weight"]
        b = factors["B.weight"].flatten(1)
        scale = _layer_scale(config, wrapper + name, len(a))
        if "B.bias" in factors:
            biases[name] = factors["B.bias"] * scale
        pairs = _separate_sites(a, b, layers[name], site_ranks.get(name, {}))
        for site, (site_a, site_b) in pairs.items():
            state |= {f"{site}.a": site_a, f"{site}.b": site_b}
            ranks[site] = len(site_a)
            scales[str(site)] = scale
    method = _build_method(ranks, scales, float(config.get("lora_dropout", 0)))
    if biases:
        blocks = {next(iter(layers[name])).block for name in biases}
        method = CompositeMethod((method, BitFit(sorted(blocks))))
    adapted = attach(vit, method)
    try:
        adapted.load_adapter_state(_with_biases(state, biases, adapted.adapter_state()))
    except ValueError as error:
        adapted.detach()
        raise ValueError(f"{folder}: {error}") from error
    return adapted


def _build_method(
    ranks: Mapping[Site, int], scales: Mapping[str, float], dropout: float
) -> Method:
    sites = in_forward_order(ranks)
    positions = dict.fromkeys(site.position for site in sites)
    return LoRA(
        rank={str(site): ranks[site] for site in sites} | {"*": 0},
        positions=cast(PositionSetting, tuple(positions)),
        blocks=sorted({site.block for site in sites}),
        scale=scales,
        dropout=dropout,
    )


def bypasses_peft(adapted: AdaptedModel) -> bool:
    """Return whether timm reads the weight of an adapted qkv layer itself.

    PEFT's layer then has no effect.

    Attention with q_bias (EVA-02, Swin V2, BEiT) does so, unless its qkv_bias_separate
    is set.
    """
    for module in adapted.vit.modules():
        has_bias = getattr(module, "q_bias", None) is not None
        if has_bias and type(module.qkv) is not nn.Linear:
            return True
    return False


@torch.no_grad()
def _combine_deltas(
    deltas: Sequence[LowRankDelta], width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return A, B and the bias of B of the additions to a layer in PEFT's shapes.

    B and its bias contain the scales.
    """
    a = torch.cat([delta.a.cpu() for delta in deltas])
    b = torch.zeros(width, len(a), dtype=deltas[0].b.dtype)
    bias = b.new_zeros(width)
    start = 0
    for delta in deltas:
        block = delta.b.cpu() * torch.as_tensor(delta.scale).cpu()
        stop = start + len(delta.a)
        b[delta.rows, start:stop] = block
        if delta.shift is not None:
            bias[delta.rows] += block @ delta.shift.cpu()
        start = stop
    if a.ndim > 2:
        b = b[:, :, None, None]
    return a, b, bias


def _with_biases(
    state: NamedTensors, biases: Mapping[str, Tensor], current: NamedTensors
) -> NamedTensors:
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


def _read_adapter(path: Path) -> tuple[NamedTensors, dict[str, str], str]:
    """Return the tensors by their name in timm, the metadata, and a module's name.

    That module is around the network.
    """
    stored, metadata = read_tensors(path)
    stored = {key.removeprefix(_PREFIX): tensor for key, tensor in stored.items()}
    wrapper = ""
    if all(key.startswith(_WRAPPER) for key in stored):
        wrapper = _WRAPPER
    tensors = {key.removeprefix(wrapper): tensor for key, tensor in stored.items()}
    return tensors, metadata, wrapper


def _factors_by_layer(
    tensors: Mapping[str, Tensor], folder: object
) -> dict[str, NamedTensors]:
    """Return layer name -> A, B and the bias of B, if not zero, by their names."""
    pattern = re.compile(r"(.+)\.lora_(A\.weight|B\.weight|B\.bias)")
    layers: dict[str, NamedTensors] = {}
    for key, tensor in tensors.items():
        match = pattern.fullmatch(key)
        if not match:
            raise ValueError(f"{folder}: {key} is neither lora_A nor lora_B of a layer")
        if match[2] != "B.bias" or tensor.any():
            layers.setdefault(match[1], {})[match[2]] = tensor
    for name, factors in layers.items():
        if not {"A.weight", "B.weight"} <= factors.keys():
            raise ValueError(f"{folder}: A or B is missing at {name}")
    if not layers:
        raise ValueError(f"{folder}: A or B is missing")
    return layers


def _build_config(
    site_ranks: Mapping[str, Mapping[str, int]], dropout: float, base: str | None
) -> dict[str, Any]:
    ranks = {name: sum(sites.values()) for name, sites in site_ranks.items()}
    most_common = Counter(ranks.values()).most_common(1)[0][0]
    exceptions = {
        re.escape(name): rank for name, rank in ranks.items() if rank != most_common
    }
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
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
    alpha = next(
        (
            alpha
            for pattern, alpha in patterns.items()
            if re.match(rf"(.*\.)?({pattern})$", name)
        ),
        config["lora_alpha"],
    )
    if config.get("use_rslora"):
        return float(alpha / math.sqrt(rank))
    return float(alpha / rank)


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
        if value and _UNSUPPORTED_KEYS.fullmatch(key)
    ]
    if config.get("modules_to_save"):
        unsupported.append("modules_to_save")
    if config.get("init_lora_weights", True) not in _SUPPORTED_INITS:
        unsupported.append("init_lora_weights")
    if unsupported:
        raise ValueError(f"{path}: unsupported options: {', '.join(unsupported)}")
    return config
