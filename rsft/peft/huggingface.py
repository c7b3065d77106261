"""Low-rank terms in the layout of Hugging Face PEFT's LoRA, and back.

A folder with adapter_config.json and adapter_model.safetensors
(https://huggingface.co/docs/peft/developer_guides/checkpoint). There a layer has one A (r, width_in), one B
(width_out, r) and a factor alpha / r. Sites of a fused qkv become one pair: A the sites' one below the other, B with
blocks at their rows and zeros elsewhere. The scales go into B, so that alpha = r.

The layout has no place for adapters, prompts or trained parameters of the network, and none for dropouts that differ.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsft.peft.methods.lora import LoRA
from rsft.peft.model.adapted_model import AdaptedModel
from rsft.peft.model.attach import attach
from rsft.peft.model.state_files import read_tensors, write_bytes_atomically, write_tensors
from rsft.peft.modules.low_rank import LowRankLinear, LowRankModule
from rsft.peft.modules.target_layers import find_target_layers
from rsft.peft.sites import Site

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_PREFIX = "base_model.model."
_SITES = "rsft.sites"  # metadata of the weights: the rank of every site of a layer, in the order of A
_STRANGE = (
    "alora_invocation_tokens",
    "layer_replication",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
)
_HARMLESS = ("gaussian", "orthogonal", "eva")
_LETTERS = {"q": "q", "k": "k", "v": "v", "out": "o", "mlp1": "1", "mlp2": "2"}

Pair = tuple[Tensor, Tensor]


def export_peft(adapted: AdaptedModel, folder: Path | str) -> None:
    """Write the low-rank terms of `adapted`, at the scales that they have now, as a PEFT adapter.

    Raises:
        ValueError: something that the layout cannot hold, or nothing low-rank is attached.
    """
    others = sorted({type(part).__name__ for part in adapted.adapter_modules if not isinstance(part, LowRankModule)})
    if others:
        raise ValueError(f"the layout of PEFT's LoRA holds low-rank terms alone, not {', '.join(others)}")
    layers = {name: layer for name, layer in adapted.vit.named_modules() if isinstance(layer, LowRankLinear)}
    if not layers:
        raise ValueError("no low-rank term is attached: export before detach and merge")
    rates = {part.dropouts[site] for layer in layers.values() for site, part in layer.adapters.items()}
    if len(rates) > 1:
        raise ValueError(f"dropouts {sorted(rates)}: the layout of PEFT's LoRA has one for all layers")
    tensors, sites = {}, {}
    for name, layer in layers.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"], tensors[f"{_PREFIX}{name}.lora_B.weight"] = _side_by_side(layer)
        ranks = {site: len(part.factors(site)[0]) for site, part in layer.adapters.items()}
        sites[name] = {site.position: rank for site, rank in ranks.items()}
    config = _config({name: sum(ranks.values()) for name, ranks in sites.items()}, rates.pop())
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_tensors(Path(folder) / WEIGHTS, tensors, {"format": "pt", _SITES: json.dumps(sites)})
    write_bytes_atomically(Path(folder) / CONFIG, json.dumps(config, indent=2).encode())


def import_peft(vit: nn.Module, folder: Path | str) -> AdaptedModel:
    """Attach a LoRA that PEFT wrote, or `export_peft`, to a network like the one that it was learned on.

    A fused qkv whose pair is not made of blocks becomes three sites with the same A.

    Raises:
        FileNotFoundError: the folder has no adapter.
        ValueError: another kind of adapter, or one for layers that are no sites of the network.
    """
    config = _plain_config(Path(folder) / CONFIG)
    tensors, metadata = read_tensors(Path(folder) / WEIGHTS)
    split = json.loads(metadata.get(_SITES, "{}"))
    layers = _sites_of_layers(vit)
    state: dict[str, Tensor] = {}
    scales: dict[str, float] = {}
    for name, (a, b) in _pairs(tensors, folder).items():
        if name not in layers:
            raise ValueError(f"{folder}: {type(vit).__name__} has no site at {name}")
        for site, pair in _separate(a, b, layers[name], split.get(name, {})).items():
            state[f"{site}.a"], state[f"{site}.b"] = pair
            scales[str(site)] = _factor(config, name, len(a))
    sites = [site for found in layers.values() for site in found if str(site) in scales]
    method = LoRA(
        rank={str(site): len(state[f"{site}.a"]) for site in sites} | {"*": 0},
        positions="".join(_LETTERS[position] for position in dict.fromkeys(site.position for site in sites)),
        blocks=sorted({site.block for site in sites}),
        scale=scales,
        dropout=float(config.get("lora_dropout", 0)),
    )
    adapted = attach(vit, method)
    try:
        adapted.load_adapter_state(state)
    except ValueError as error:
        adapted.detach()
        raise ValueError(f"{folder}: {error}") from error
    return adapted


@torch.no_grad()
def _side_by_side(layer: LowRankLinear) -> tuple[Tensor, Tensor]:
    """A (R, width_in) and B (width_out, R) of all terms of a layer, with their scales in B."""
    terms = layer.deltas()
    b = torch.zeros(layer.out_features, sum(len(term.a) for term in terms), dtype=terms[0].b.dtype)
    start = 0
    for term in terms:
        b[term.rows, start : start + len(term.a)] = term.b.cpu() * torch.as_tensor(term.scale).cpu()
        start += len(term.a)
    return torch.cat([term.a.cpu() for term in terms]), b


def _separate(a: Tensor, b: Tensor, sites: Mapping[Site, slice], ranks: Mapping[str, int]) -> dict[Site, Pair]:
    """The pair of a layer as one pair a site: by blocks where it is made of them, else all of A with B's rows."""
    found, rest, start = {}, b.clone(), 0
    for site, rows in sites.items():
        stop = start + ranks.get(site.position, 0)
        if stop > start:
            found[site] = (a[start:stop], b[rows, start:stop])
            rest[rows, start:stop] = 0
        start = stop
    if start == len(a) and not rest.any():
        return found
    busy = {site: rows for site, rows in sites.items() if b[rows].any()}
    return {site: (a, b[rows]) for site, rows in (busy or sites).items()}


def _sites_of_layers(vit: nn.Module) -> dict[str, dict[Site, slice]]:
    """Layer name -> its sites and their rows."""
    names = {id(module): name for name, module in vit.named_modules()}
    layers: dict[str, dict[Site, slice]] = {}
    for site, host in find_target_layers(vit).items():
        layers.setdefault(names[id(host.layer)], {})[site] = host.rows
    return layers


def _pairs(tensors: Mapping[str, Tensor], folder: object) -> dict[str, Pair]:
    """Layer name -> (A, B)."""
    form = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_([AB])\.weight")
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = form.fullmatch(key)
        if match is None:
            raise ValueError(f"{folder}: {key} is neither lora_A nor lora_B of a linear layer")
        found.setdefault(match[1], {})[match[2]] = tensor
    lone = [name for name, pair in found.items() if len(pair) < 2]
    if lone or not found:
        raise ValueError(f"{folder}: A or B is missing{' at ' + lone[0] if lone else ''}")
    return {name: (pair["A"], pair["B"]) for name, pair in found.items()}


def _config(ranks: Mapping[str, int], dropout: float) -> dict[str, Any]:
    usual = Counter(ranks.values()).most_common(1)[0][0]
    others = {re.escape(name): rank for name, rank in ranks.items() if rank != usual}
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "task_type": None,
        "inference_mode": True,
        "target_modules": "|".join(map(re.escape, ranks)),
        "r": usual,
        "rank_pattern": others,
        "lora_alpha": usual,
        "alpha_pattern": others,
        "lora_dropout": dropout,
        "bias": "none",
        "fan_in_fan_out": False,
    }


def _factor(config: Mapping[str, Any], name: str, rank: int) -> float:
    """alpha / r of a layer, or alpha / sqrt r if rank-stabilised."""
    patterns = config.get("alpha_pattern") or {}
    fitting = [alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", name)]
    alpha = fitting[0] if fitting else config["lora_alpha"]
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _plain_config(path: Path) -> dict[str, Any]:
    """The configuration of a LoRA; what changes the meaning of A and B is refused."""
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{path}: a {config.get('peft_type')} adapter, not a LoRA")
    strange = [key for key, value in config.items() if key.startswith("use_") and value and key != "use_rslora"]
    strange += [key for key in _STRANGE if config.get(key)]
    if isinstance(config.get("init_lora_weights"), str) and config["init_lora_weights"] not in _HARMLESS:
        strange.append("init_lora_weights")  # the others change the frozen weights
    if strange:
        raise ValueError(f"{path}: {', '.join(strange)} has no counterpart here")
    return config
