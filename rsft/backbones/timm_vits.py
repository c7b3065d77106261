"""Cards of timm's plain vision transformers: all models with the layers `REQUIRED_LAYERS` in every block."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import PretrainedCfg, get_pretrained_cfg, is_model, is_model_in_modules
from timm.models.vision_transformer import VisionTransformer

from rsft.backbones.card import Card, Remote, check_input_size, drop_tensors
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
)
"""The models that `rsft backbones ls` lists. `timm_card` accepts all other plain vision transformers, too."""

PREFIX = "timm:"
"""Prefix of a model name: the weights come from the file `backbone.weights`, not from the hub."""

REQUIRED_LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
"""Layers of a block that PEFT methods adapt."""

_MODULES = ("vision_transformer", "deit")  # timm's modules with plain vision transformers
_UNUSED = ("mask_token", "pre_logits")  # from pre-training; timm's checkpoint_filter_fn drops both


def timm_card(name: str) -> Card | None:
    """Return the card of a model in timm's registry.

    Args:
        name: architecture and tag, such as "vit_base_patch16_224.augreg_in21k". Without a tag, the card has timm's
            default tag. `timm:MODEL` takes weights from a local file, so the model needs no weights on the hub.

    Returns:
        The card; None if timm has no such model.

    Raises:
        RequestError: the model is not a vision transformer that can be fine-tuned, or its weights are not on the hub.
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
    vit = _check_model(full_name)
    patch, grid = vit.patch_embed.patch_size[0], vit.patch_embed.grid_size[0]
    heads = [config.classifier] if isinstance(config.classifier, str) else config.classifier or []
    unused = (*heads, *_UNUSED)
    return Card(
        name=f"{PREFIX}{name}" if is_local else full_name,
        about=f"timm {config.architecture}, weights {'of a local file' if is_local else config.tag}",
        size=grid * patch,  # an image that whole patches do not cover is cropped
        patch=patch,
        bands=("R", "G", "B"),
        unit="uint8",
        mean=tuple(config.mean),
        std=tuple(config.std),
        license=(None if is_local else config.license) or "unknown",
        weights=_local_file(name) if is_local else _hub_file(full_name, config),
        build=partial(build_timm_vit, full_name, patch),
        convert=lambda state: drop_tensors(state, *unused),
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
        A ViT that maps (B, bands, size, size) to tokens (B, N, D).

    Raises:
        RequestError: `size` is not a multiple of `patch`.
    """
    check_input_size(architecture, patch, size)
    if torch.get_default_device().type == "meta":  # initialization would take most of the time
        options["weight_init"] = "skip"
    return cast(VisionTransformer, timm.create_model(architecture, num_classes=0, img_size=size, **options))


def _check_model(name: str) -> VisionTransformer:
    """Return the model on the meta device, which has shapes but no weights; raise RequestError for other networks."""
    error = RequestError(
        f"{name} is not a plain vision transformer: fine-tuning needs blocks with {', '.join(REQUIRED_LAYERS)}",
        "backbone.name",
        "choose one that `rsft backbones ls` shows",
    )
    if not is_model_in_modules(name.split(".")[0], _MODULES):
        raise error
    with torch.device("meta"):
        vit = timm.create_model(name, num_classes=0, weight_init="skip")
    if not isinstance(vit, VisionTransformer):
        raise error
    if not {layer for layer, _ in vit.blocks[0].named_modules()}.issuperset(REQUIRED_LAYERS):
        raise error
    return vit


def _describe_tags(name: str) -> str:
    architecture = name.split(".")[0]
    tags = [model_name.partition(".")[2] for model_name in timm.list_models(f"{architecture}.*", pretrained=True)]
    return f"tags: {', '.join(tags)}" if tags else "it has no weights in timm"
