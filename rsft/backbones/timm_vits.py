"""Cards of timm's vision transformers: all models for which `structure_fault` returns None."""

from __future__ import annotations

import math
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import PretrainedCfg, get_pretrained_cfg, is_model, is_model_in_modules
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.card import Card, Remote, check_input_size
from rsft.backbones.hierarchical import hierarchical_card, is_hierarchical_model
from rsft.backbones.timm_checkpoints import convert_timm_checkpoint
from rsft.errors import RequestError

NAMES = (
    "vit_tiny_patch16_224.augreg_in21k",
    "vit_small_patch16_224.augreg_in21k",
    "vit_base_patch16_224.augreg_in21k",
    "vit_large_patch16_224.augreg_in21k",
    "vit_small_patch16_224.dino",
    "vit_base_patch16_224.dino",
    "vit_base_patch16_224.mae",
    "vit_large_patch16_224.mae",
    "vit_small_patch14_dinov2.lvd142m",
    "vit_base_patch14_dinov2.lvd142m",
    "vit_large_patch14_dinov2.lvd142m",
    "vit_base_patch16_clip_224.openai",
    "vit_small_patch16_dinov3.lvd1689m",
    "vit_base_patch16_dinov3.lvd1689m",
    "vit_large_patch16_dinov3.lvd1689m",
    "vit_large_patch16_dinov3.sat493m",
    "eva02_base_patch14_224.mim_in22k",
    "cait_s24_224.fb_dist_in1k",
)
"""The models that `rsft backbones ls` lists. `timm_card` accepts all other vision transformers, too."""

PREFIX = "timm:"
"""Prefix of a model name: the weights come from the file `backbone.weights`, not from the hub."""

_REQUIRED_ATTRIBUTES = ("blocks", "patch_embed.patch_size", "patch_embed.grid_size", "embed_dim", "num_prefix_tokens")
_REQUIRED_LAYERS = (("attn.qkv", "attn.q_proj"), ("attn.proj",), ("mlp.fc2",))
"""Linear layers of a block that PEFT methods adapt, as alternatives. mlp.fc1 may be missing (SwiGLU)."""

_SKIPS_INITIALIZATION = ("vision_transformer", "vision_transformer_hybrid", "deit")
"""Modules of timm whose models have the argument `weight_init`."""


def timm_card(name: str) -> Card | None:
    """Return the card of a model in timm's registry.

    Args:
        name: architecture and tag, such as "vit_base_patch16_224.augreg_in21k". Without a tag, the card has timm's
            default tag. `timm:MODEL` takes weights from a local file, so the model needs no weights on the hub.

    Returns:
        The card; None if timm has no such model.

    Raises:
        RequestError: the model lacks a part that fine-tuning needs, or its weights are not on the hub.
    """
    is_local = name.startswith(PREFIX)
    name = name.removeprefix(PREFIX)
    if not is_model(name):
        return None
    try:
        config = get_pretrained_cfg(name)
    except RuntimeError as error:  # an unknown tag; the message names architecture and tag
        raise RequestError(str(error), "backbone.name", _describe_tags(name)) from error
    if config is None or not (config.hf_hub_id or is_local):
        hint = f"choose another model, or name your own file: backbone.name=timm:{name} backbone.weights=FILE"
        raise RequestError(f"timm has no weights of {name} on the hub", "backbone.name", hint)
    full_name = ".".join(filter(None, (config.architecture, config.tag)))
    fields: dict[str, Any] = {
        "name": f"{PREFIX}{name}" if is_local else full_name,
        "about": f"timm {config.architecture}, weights {'of a local file' if is_local else config.tag}",
        "bands": ("R", "G", "B"),
        "unit": "uint8",
        "mean": tuple(config.mean),
        "std": tuple(config.std),
        "license": (None if is_local else config.license) or "unknown",
        "weights": _local_file(name) if is_local else _hub_file(full_name, config),
        "sensor": "satellite images" if (config.tag or "").startswith("sat") else "photographs",
    }
    if is_hierarchical_model(full_name):
        return hierarchical_card(full_name, config, **fields)
    grid, patch, tensor_names = _checked_structure(full_name)
    heads = [config.classifier] if isinstance(config.classifier, str) else config.classifier or []
    return Card(
        size=grid * patch,  # an image that whole patches do not cover is cropped
        patch=patch,
        build=partial(build_timm_vit, full_name, patch),
        convert=partial(convert_timm_checkpoint, expected=tensor_names, heads=tuple(heads)),
        **fields,
    )


def _hub_file(name: str, config: PretrainedCfg) -> Remote:
    page = f"https://huggingface.co/{config.hf_hub_id}"
    file = config.hf_hub_filename or "model.safetensors"
    return Remote(f"{name}{Path(file).suffix}", f"{page}/resolve/main/{file}", None, None, page)


def _local_file(name: str) -> Remote:
    return Remote(f"{name}.safetensors", None, None, None, "name the file in backbone.weights")


def build_timm_vit(architecture: str, patch: int, size: int, **options: Any) -> VisionTransformer:
    """Build a timm model without a head. On the meta device, its weights are not initialized.

    Args:
        architecture: timm's name, with or without tag.
        patch: side of a patch, in pixels.
        size: side of the input, in pixels.
        **options: further arguments of `timm.create_model`.

    Returns:
        A network that maps (B, bands, size, size) to tokens (B, N, D), with the attributes of a VisionTransformer.

    Raises:
        RequestError: `size` is not a multiple of `patch`.
    """
    check_input_size(architecture, patch, size)
    is_plain = is_model_in_modules(architecture.split(".")[0], _SKIPS_INITIALIZATION)
    if torch.get_default_device().type == "meta" and is_plain:  # initialization would take most of the time
        options["weight_init"] = "skip"
    vit = timm.create_model(architecture, num_classes=0, img_size=size, **options)
    if not hasattr(vit, "fc_norm"):  # CaiT normalizes before the pooling
        vit.fc_norm = nn.Identity()
    return cast(VisionTransformer, vit)


def structure_fault(network: nn.Module) -> str | None:
    """Return why a network cannot be fine-tuned as a vision transformer, or None if it can.

    Args:
        network: a network of timm on the meta device.

    Returns:
        The first missing attribute or layer, or the shape of the features if they are not tokens, as a sentence.
    """
    for attribute in _REQUIRED_ATTRIBUTES:
        if _get_nested(network, attribute) is None:
            return f"it has no {attribute}"
    vit = cast(VisionTransformer, network)
    if not isinstance(vit.embed_dim, int):
        return f"its embed_dim is {vit.embed_dim}, not one width"
    for index, block in enumerate(vit.blocks):
        layers = {name for name, module in block.named_modules() if type(module) is nn.Linear}
        for alternatives in _REQUIRED_LAYERS:
            if not layers.intersection(alternatives):
                return f"blocks.{index} has no linear layer {' or '.join(alternatives)}"
    return _features_fault(vit)


def _features_fault(vit: VisionTransformer) -> str | None:
    image = torch.empty(1, 3, *vit.patch_embed.img_size, device="meta")
    expected = (1, vit.num_prefix_tokens + math.prod(vit.patch_embed.grid_size), vit.embed_dim)
    with torch.device("meta"), torch.no_grad():
        features = vit.eval().forward_features(image)
    if isinstance(features, Tensor) and features.shape == expected:
        return None
    shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    return f"its forward_features returns {shape}, not tokens {expected}"


@cache
def _checked_structure(name: str) -> tuple[int, int, frozenset[str]]:
    """Return patches per side, side of a patch in pixels and names of the tensors of a model.

    The model is built on the meta device, where it has shapes but no weights.

    Raises:
        RequestError: the model has a fault.
    """
    options: dict[str, Any] = (
        {"weight_init": "skip"} if is_model_in_modules(name.split(".")[0], _SKIPS_INITIALIZATION) else {}
    )
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=0, **options)
    if fault := structure_fault(network):
        message = f"{name} cannot be fine-tuned as a vision transformer: {fault}"
        raise RequestError(message, "backbone.name", "choose one that `rsft backbones ls` shows")
    vit = cast(VisionTransformer, network)
    grid = vit.patch_embed.grid_size[0]
    return grid, vit.patch_embed.img_size[0] // grid, frozenset(vit.state_dict())


def _get_nested(module: Any, path: str) -> Any:
    """Return the attribute at a dotted path, or None."""
    for name in path.split("."):
        module = getattr(module, name, None)
    return module


def _describe_tags(name: str) -> str:
    architecture = name.split(".")[0]
    tags = [model_name.partition(".")[2] for model_name in timm.list_models(f"{architecture}.*", pretrained=True)]
    return f"tags: {', '.join(tags)}" if tags else "it has no weights in timm"
