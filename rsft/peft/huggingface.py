"""Write and read low-rank adapters in the layout of Hugging Face PEFT's LoRA.

The layout is a folder with adapter_config.json and adapter_model.safetensors
(https://huggingface.co/docs/peft/developer_guides/checkpoint). In PEFT a layer has one
A (r, width_in), one B (width_out, r) and a factor alpha / r; a convolution has A (r,
in, h, w) and B (width_out, r, 1, 1). The sites of a fused qkv become one pair: their A
matrices are stacked, and B holds their B matrices as blocks at the rows of each site,
with zeros elsewhere. B includes the scales, so alpha = r.

A sequential module at out adds m B A (W h + b). It is written with the factor A W if
the output projection has no bias b.

The layout cannot hold adapters, prompts or trained parameters of the network. Dropout
acts in training only, and is not stored.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from rsft.peft.kernels import LowRankDelta
from rsft.peft.methods.builtin import LoRA
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
from rsft.types import JsonObject

_CONFIG_FILE = "adapter_config.json"
_WEIGHTS_FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_WRAPPER = "timm_model."  # transformers keeps a network of timm under this name
_KEY = re.compile(
    rf"(?:{re.escape(_PREFIX)})?(?:{re.escape(_WRAPPER)})?(.+)\.lora_([AB])\.weight"
)
_UNSUPPORTED_KEYS = re.compile(
    "use_(?!rslora$).*|alora_invocation_tokens|layer_replication|target_parameters"
    "|trainable_token_indices|modules_to_save|lora_bias"
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
        ...     export_peft(attach(create(), LoRA(rank=2, positions="qkv")), folder)
        ...     len(import_peft(create(), folder).sites)
        36
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
    ranks = {}
    for name, layer in layers.items():
        a, b = _combine_deltas(layer.deltas(), len(layer.weight))
        ranks[name] = len(a)
        key = f"{_PREFIX}{name}.lora_"
        tensors |= {f"{key}A.weight": a, f"{key}B.weight": b}
    config = json.dumps(_build_config(ranks, base), indent=2)
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_tensors(Path(folder) / _WEIGHTS_FILE, tensors, {"format": "pt"})
    write_bytes_atomically(Path(folder) / _CONFIG_FILE, config.encode())


def import_peft(vit: nn.Module, folder: Path | str) -> AdaptedModel:
    """Attach a LoRA adapter that PEFT or `export_peft` wrote.

    A fused qkv becomes up to three sites with the same A.

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
        ...     export_peft(attach(create(), LoRA(rank=2, positions="qkv")), folder)
        ...     len(import_peft(create(), folder).sites)
        36
    """
    config = _read_config(Path(folder) / _CONFIG_FILE)
    stored, _ = read_tensors(Path(folder) / _WEIGHTS_FILE)
    names = {id(module): name for name, module in vit.named_modules()}
    layers: dict[str, dict[Site, slice]] = {}
    for site, target in find_target_layers(vit).items():
        layers.setdefault(names[id(target.layer)], {})[site] = target.rows
    state: NamedTensors = {}
    ranks = {}
    scales = {}
    for name, factors in _factors_by_layer(stored, folder).items():
        if name not in layers:
            raise ValueError(f"{folder}: {type(vit).__name__} has no site at {name}")
        a = factors["A"]
        b = factors["B"].flatten(1)
        sites = layers[name]
        changed = [site for site, rows in sites.items() if b[rows].any()]
        for site in changed or sites:
            state |= {f"{site}.a": a, f"{site}.b": b[sites[site]]}
            ranks[site] = len(a)
            scales[str(site)] = _layer_scale(config, name, len(a))
    adapted = attach(vit, _build_method(ranks, scales))
    try:
        adapted.load_adapter_state(state)
    except ValueError as error:
        adapted.detach()
        raise ValueError(f"{folder}: {error}") from error
    return adapted


def _build_method(ranks: Mapping[Site, int], scales: Mapping[str, float]) -> LoRA:
    sites = in_forward_order(ranks)
    positions = dict.fromkeys(site.position for site in sites)
    return LoRA(
        rank={str(site): ranks[site] for site in sites} | {"*": 0},
        positions=cast(PositionSetting, tuple(positions)),
        blocks=sorted({site.block for site in sites}),
        scale=scales,
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
def _combine_deltas(deltas: Sequence[LowRankDelta], width: int) -> Factors:
    """Return A and B of the additions to a layer in PEFT's shapes.

    B contains the scales.

    Raises:
        ValueError: an addition has a shift, for which lora_B would need a bias.
    """
    a = torch.cat([delta.a.cpu() for delta in deltas])
    b = torch.zeros(width, len(a), dtype=deltas[0].b.dtype)
    start = 0
    for delta in deltas:
        if delta.shift is not None:
            raise ValueError(
                "the layout of PEFT's LoRA has no place for a sequential module at out"
                " of a layer with a bias (peft.out_insertion)"
            )
        stop = start + len(delta.a)
        scale = torch.as_tensor(delta.scale).cpu()
        b[delta.rows, start:stop] = delta.b.cpu() * scale
        start = stop
    if a.ndim > 2:
        b = b[:, :, None, None]
    return a, b


def _factors_by_layer(
    tensors: Mapping[str, Tensor], folder: object
) -> dict[str, NamedTensors]:
    """Return layer name -> A and B."""
    layers: dict[str, NamedTensors] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if not match:
            raise ValueError(f"{folder}: {key} is neither lora_A nor lora_B of a layer")
        layers.setdefault(match[1], {})[match[2]] = tensor
    if not layers or any(len(factors) < 2 for factors in layers.values()):
        raise ValueError(f"{folder}: A or B of a layer is missing")
    return layers


def _build_config(ranks: Mapping[str, int], base: str | None) -> JsonObject:
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
        "lora_dropout": 0.0,
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
            if re.match(rf"(.*\.)?({pattern})$", f"{_WRAPPER}{name}")
        ),
        config["lora_alpha"],
    )
    if config.get("use_rslora"):
        return float(alpha / math.sqrt(rank))
    return float(alpha / rank)


def _read_config(path: Path) -> JsonObject:
    """Read the configuration of a LoRA.

    Options that change the meaning of A and B are an error.
    """
    try:
        config: JsonObject = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{path}: a {config.get('peft_type')} adapter, not a LoRA")
    unsupported = [
        key
        for key, value in config.items()
        if value and _UNSUPPORTED_KEYS.fullmatch(key)
    ]
    if config.get("init_lora_weights", True) not in _SUPPORTED_INITS:
        unsupported.append("init_lora_weights")
    if unsupported:
        raise ValueError(f"{path}: unsupported options: {', '.join(unsupported)}")
    return config
