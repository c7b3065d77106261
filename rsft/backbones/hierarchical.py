"""Cards of timm's convolutional and hierarchical networks: ResNet, ConvNeXt, Swin and Swin V2.

Their features are a map with one vector per 32 x 32 pixels. They have no class token, so a recipe takes the mean of the
map (`backbone.pool: avg`).
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, cast

import timm
import torch
from timm.models import PretrainedCfg, is_model_in_modules
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer

from rsft.backbones.card import Card, check_input_size
from rsft.backbones.timm_checkpoints import convert_timm_checkpoint

NAMES = (
    "resnet50.a1_in1k",
    "convnext_tiny.fb_in22k",
    "convnext_base.fb_in22k",
    "convnextv2_tiny.fcmae_ft_in22k_in1k",
    "swin_base_patch4_window7_224.ms_in22k",
    "swinv2_base_window12_192.ms_in22k",
)
"""The models that `rsft backbones ls` lists. All other models of `_MODULES` have a card, too."""

STRIDE = 32
"""Side of the image region of one feature vector, in pixels."""

_MODULES = ("resnet", "convnext", "swin_transformer", "swin_transformer_v2")


def is_hierarchical_model(name: str) -> bool:
    """Return whether a model of timm is a ResNet, a ConvNeXt, a Swin or a Swin V2.

    Args:
        name: timm's name, with or without tag.
    """
    return is_model_in_modules(name.split(".")[0], _MODULES)


def hierarchical_card(architecture: str, config: PretrainedCfg, **fields: Any) -> Card:
    """Return the card of a hierarchical model of timm.

    Args:
        architecture: timm's name, with tag.
        config: timm's configuration of its weights.
        **fields: further fields of the card.

    Returns:
        The card.
    """
    heads = (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or ())
    return Card(
        size=config.input_size[-1],
        patch=STRIDE,
        build=partial(build_hierarchical, architecture),
        convert=partial(convert_timm_checkpoint, expected=_tensor_names(architecture), heads=heads),
        **fields,
    )


def build_hierarchical(architecture: str, size: int, **options: Any) -> VisionTransformer:
    """Build a hierarchical model of timm without a head.

    The windows of a Swin shrink with its feature maps. Swin V2 then keeps the scale of its relative coordinates, which
    is that of the windows in pre-training.

    Args:
        architecture: timm's name, with or without tag.
        size: side of the input, in pixels.
        **options: further arguments of `timm.create_model`.

    Returns:
        A network that maps (B, bands, size, size) to a feature map; `forward_head(map, pre_logits=True)` pools it.

    Raises:
        RequestError: `size` is not a multiple of 32, and the network is no ResNet.
    """
    is_resnet = is_model_in_modules(architecture.split(".")[0], ["resnet"])
    check_input_size(architecture, 1 if is_resnet else STRIDE, size)
    if "swin" in architecture:
        options["img_size"] = size
    if is_model_in_modules(architecture.split(".")[0], ["swin_transformer_v2"]):
        options["pretrained_window_sizes"] = _pretrained_windows(architecture)
    return cast(VisionTransformer, timm.create_model(architecture, num_classes=0, **options))


@cache
def _tensor_names(architecture: str) -> frozenset[str]:
    """Return the names of the tensors of a model without a head."""
    with torch.device("meta"):
        return frozenset(timm.create_model(architecture, num_classes=0).state_dict())


@cache
def _pretrained_windows(architecture: str) -> tuple[int, ...]:
    """Return the side of the windows in pre-training in each stage of a Swin V2."""
    with torch.device("meta"):
        network = cast(SwinTransformerV2, timm.create_model(architecture, num_classes=0))
    attentions: list[Any] = [cast(Any, stage).blocks[0].attn for stage in network.layers]
    return tuple(attn.pretrained_window_size[0] or attn.window_size[0] for attn in attentions)
