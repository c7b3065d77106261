"""Vision transformers of timm by name: every one whose blocks have the usual layers, with its weights on the hub."""

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
"""Those that a list shows; `card` knows the others too."""

PREFIX = "timm:"
"""Before a model name: the weights come from a file that the recipe names, not from the hub."""

SITES = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
"""The layers of a block that fine-tuning attaches to."""

_MODULES = ("vision_transformer", "deit")  # of timm, where its plain vision transformers are
_UNUSED = ("mask_token", "pre_logits")  # of pre-training; timm's own checkpoint_filter_fn drops both


def timm_card(name: str) -> Card | None:
    """What timm's registry holds of `name`, such as vit_base_patch16_224.augreg_in21k; None where it has no such model.

    Args:
        name: architecture and tag; without a tag it is timm's default one, which the card's name then tells.

    Raises:
        RequestError: the model is no vision transformer that can be fine-tuned here, or has no weights on the hub.
    """
    local = name.startswith(PREFIX)
    name = name.removeprefix(PREFIX)
    if not is_model(name):
        return None
    try:
        config = get_pretrained_cfg(name)
    except RuntimeError as error:  # an unknown tag; names the architecture and the tag
        raise RequestError(str(error), "backbone.name", _tags(name)) from error
    if config is None or not (config.hf_hub_id or local):
        fix = f"choose another model, or name your own file: backbone.name=timm:{name} backbone.weights=FILE"
        raise RequestError(f"timm has no weights of {name} on the hub", "backbone.name", fix)
    full = ".".join(filter(None, (config.architecture, config.tag)))
    vit = _checked(full)
    patch, grid = vit.patch_embed.patch_size[0], vit.patch_embed.grid_size[0]
    heads = [config.classifier] if isinstance(config.classifier, str) else config.classifier or []
    unused = (*heads, *_UNUSED)
    return Card(
        name=f"{PREFIX}{name}" if local else full,
        about=f"timm {config.architecture}, weights {'of a local file' if local else config.tag}",
        size=grid * patch,  # where the sides of the patches do not add up to the images', these are cropped
        patch=patch,
        bands=("R", "G", "B"),
        unit="uint8",
        mean=tuple(config.mean),
        std=tuple(config.std),
        license=(None if local else config.license) or "unknown",
        weights=_local_file(name) if local else _hub_file(full, config),
        build=partial(build_timm_vit, full, patch),
        convert=lambda state: drop_tensors(state, *unused),
    )


def _hub_file(name: str, config: PretrainedCfg) -> Remote:
    page = f"https://huggingface.co/{config.hf_hub_id}"
    file = config.hf_hub_filename or "model.safetensors"
    return Remote(f"{name}{Path(file).suffix}", f"{page}/resolve/main/{file}", None, None, page)


def _local_file(name: str) -> Remote:
    return Remote(f"{name}.safetensors", None, None, None, "name the file in backbone.weights")


def build_timm_vit(architecture: str, patch: int, size: int, **options: Any) -> VisionTransformer:
    """A timm model for inputs (B, bands, size, size), without a head; on the meta device its weights are not drawn.

    Raises:
        RequestError: the patches do not divide `size`.
    """
    check_input_size(architecture, patch, size)
    if torch.get_default_device().type == "meta":  # drawing values that nobody keeps would take most of the time
        options["weight_init"] = "skip"
    return cast(VisionTransformer, timm.create_model(architecture, num_classes=0, img_size=size, **options))


def _checked(name: str) -> VisionTransformer:
    """The model on the meta device, as an example of its shapes."""
    other = RequestError(
        f"{name} is no plain vision transformer: fine-tuning needs blocks with {', '.join(SITES)}",
        "backbone.name",
        "`rsft backbones ls` shows some that are",
    )
    if not is_model_in_modules(name.split(".")[0], _MODULES):
        raise other
    with torch.device("meta"):
        vit = timm.create_model(name, num_classes=0, weight_init="skip")
    if not isinstance(vit, VisionTransformer):
        raise other
    if not {layer for layer, _ in vit.blocks[0].named_modules()}.issuperset(SITES):
        raise other
    return vit


def _tags(name: str) -> str:
    architecture = name.split(".")[0]
    known = [full.partition(".")[2] for full in timm.list_models(f"{architecture}.*", pretrained=True)]
    return f"tags: {', '.join(known)}" if known else "it has no weights in timm"
