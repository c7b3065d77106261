"""Cards of timm's vision transformers, ResNets, ConvNeXts and Swins.

All vision transformers for which `structure_fault` returns None have a card, and all
ResNets, ConvNeXts, Swins and Swin V2s. The features of the latter are a map with one
vector per 32 x 32 pixels. They have no class token, so a recipe takes the mean of the
map (`backbone.pool: avg`).
"""

import math
import re
from collections.abc import Collection
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import get_pretrained_cfg, is_model, is_model_in_modules
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.backbones.card import Card, Remote, State, check_input_size, drop_tensors
from rsft.backbones.padded_windows import pad_windows
from rsft.errors import RequestError

_UNUSED = ("mask_token", "pre_logits", "lm_head")
"""Tensors of pre-training and of old heads. timm's `checkpoint_filter_fn` drops
them."""

_RECOMPUTED = re.compile(
    r"^rope\.|(relative_position_index|relative_coords_table"
    r"|\.attn_mask|\.attn\.k_bias)$"
)
"""Tensors that follow from the shape of the network: rotary embeddings, position
indices and masks."""


def convert_timm_checkpoint(
    state: State, expected: Collection[str], heads: Collection[str]
) -> State:
    """Return the tensors of an encoder of timm.

    Args:
        state: a checkpoint in the layout of timm's hub.
        expected: names of the encoder's tensors.
        heads: names of the classifier's modules, which the encoder lacks.

    Returns:
        Name -> tensor, without copies. Tensors that the encoder is not known to leave
        out are kept, so that the loader refuses them.
    """
    state = drop_tensors(state, *_UNUSED, *heads)
    norm = "fc_norm.weight"
    pools_first = norm in expected and "norm.weight" not in expected
    converted = {}
    for name, tensor in state.items():
        if name not in expected and _RECOMPUTED.search(name):
            continue
        if pools_first and norm not in state:
            # as in timm, the final norm of masked pre-training is used after pooling
            name = re.sub(r"^norm\.", "fc_norm.", name)
        converted[name] = tensor
    return converted


HIERARCHICAL_NAMES = (
    "resnet50.a1_in1k",
    "convnext_tiny.fb_in22k",
    "convnext_base.fb_in22k",
    "convnextv2_tiny.fcmae_ft_in22k_in1k",
    "swin_base_patch4_window7_224.ms_in22k",
    "swinv2_base_window12_192.ms_in22k",
)
"""The models that `rsft backbones ls` lists. All other models of `_MODULES` have a
card, too."""

STRIDE = 32
"""Side of the image region of one feature vector, in pixels."""

_MODULES = ("resnet", "convnext", "swin_transformer", "swin_transformer_v2")


def _is_of(name: str, *modules: str) -> bool:
    """Return whether a model of timm is defined in one of some modules."""
    return is_model_in_modules(name.split(".")[0], modules)


def is_hierarchical_model(name: str) -> bool:
    """Return whether a model of timm is a ResNet, a ConvNeXt, a Swin or a Swin V2."""
    return _is_of(name, *_MODULES)


def build_hierarchical(
    architecture: str, size: int, pads: bool = False, **options: Any
) -> VisionTransformer:
    """Build a hierarchical model of timm without a head.

    The windows of timm's Swins shrink with the feature maps. Swin V2 then keeps the
    scale of its relative coordinates, which is that of the windows in pre-training.

    Args:
        architecture: timm's name, with or without tag.
        size: side of the input, in pixels.
        pads: whether a Swin pads its feature maps to whole windows, as torchvision's.
        **options: further arguments of `timm.create_model`.

    Returns:
        A network that maps (B, bands, size, size) to a feature map; `forward_head(map,
        pre_logits=True)` pools it.

    Raises:
        RequestError: `size` is not a multiple of 32, and the network is no ResNet.
    """
    stride = 1 if _is_of(architecture, "resnet") else STRIDE
    check_input_size(architecture, stride, size)
    if "swin" in architecture:
        options["img_size"] = size
    if _is_of(architecture, "swin_transformer_v2"):
        network: Any = _on_meta_device(architecture)
        windows = []
        for stage in network.layers:
            attention = stage.blocks[0].attn
            window = attention.pretrained_window_size[0] or attention.window_size[0]
            windows.append(window)
        options["pretrained_window_sizes"] = tuple(windows)
    if pads:
        options["always_partition"] = True
    network = timm.create_model(architecture, num_classes=0, **options)
    if pads:
        pad_windows(network)
    return cast(VisionTransformer, network)


@cache
def _on_meta_device(name: str) -> nn.Module:
    """Build a model without a head on the meta device, where it has no weights."""
    with torch.device("meta"):
        return timm.create_model(name, num_classes=0)


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
"""The models that `rsft backbones ls` lists. `timm_card` accepts all other vision
transformers, too."""

PREFIX = "timm:"
"""Prefix of a model name: the weights come from the file `backbone.weights`, not from
the hub."""

_REQUIRED_ATTRIBUTES = (
    "blocks",
    "patch_embed.patch_size",
    "patch_embed.grid_size",
    "embed_dim",
    "num_prefix_tokens",
)
_REQUIRED_LAYERS = (("attn.qkv", "attn.q_proj"), ("attn.proj",), ("mlp.fc2",))
"""Linear layers of a block that PEFT methods adapt, as alternatives. mlp.fc1 may be
missing (SwiGLU)."""


def timm_card(name: str) -> Card | None:
    """Return the card of a model in timm's registry.

    Args:
        name: architecture and tag; without a tag, it has timm's default tag.
            `timm:MODEL` takes weights from a local file, so the model needs no weights
            on the hub.

    Returns:
        The card; None if timm has no such model.

    Raises:
        RequestError: the model lacks a part that fine-tuning needs, or its weights are
            not on the hub.
    """
    is_local = name.startswith(PREFIX)
    name = name.removeprefix(PREFIX)
    if not is_model(name):
        return None
    config = _config(name)
    if not config or not (config.hf_hub_id or is_local):
        raise RequestError(
            f"timm has no weights of {name} on the hub",
            "backbone.name",
            f"choose another model, or name your own file: backbone.name=timm:{name}"
            " backbone.weights=FILE",
        )
    full_name = ".".join(filter(None, (config.architecture, config.tag)))
    if is_local:
        card_name = f"{PREFIX}{name}"
        origin = "of a local file"
        terms = "unknown"
        page = "name the file in backbone.weights"
        remote = Remote(f"{name}.safetensors", page=page)
    else:
        card_name = full_name
        origin = config.tag
        terms = config.license or "unknown"
        page = f"https://huggingface.co/{config.hf_hub_id}"
        file = config.hf_hub_filename or "model.safetensors"
        url = f"{page}/resolve/main/{file}"
        remote = Remote(f"{full_name}{Path(file).suffix}", url, page=page)
    if is_hierarchical_model(full_name):
        size = config.input_size[-1]
        patch = STRIDE
        tensor_names = frozenset(_on_meta_device(full_name).state_dict())
        build = partial(build_hierarchical, full_name)
    else:
        size, patch, tensor_names = _checked_structure(full_name)
        build = partial(build_timm_vit, full_name, patch)
    heads = config.classifier or ()
    if isinstance(heads, str):
        heads = (heads,)
    is_satellite = (config.tag or "").startswith("sat")
    return Card(
        name=card_name,
        about=f"timm {config.architecture}, weights {origin}",
        size=size,
        patch=patch,
        bands=("R", "G", "B"),
        unit="uint8",
        mean=tuple(config.mean),
        std=tuple(config.std),
        license=terms,
        weights=remote,
        build=build,
        convert=partial(
            convert_timm_checkpoint, expected=tensor_names, heads=tuple(heads)
        ),
        sensor="satellite images" if is_satellite else "photographs",
    )


def _config(name: str) -> Any:
    """Return timm's configuration of a model; None if it has no pre-trained weights."""
    try:
        return get_pretrained_cfg(name)
    except RuntimeError as error:  # an unknown tag, which the message names
        models = timm.list_models(f"{name.split('.')[0]}.*", pretrained=True)
        tags = ", ".join(model.partition(".")[2] for model in models)
        hint = f"tags: {tags}" if tags else "it has no weights in timm"
        raise RequestError(str(error), "backbone.name", hint) from error


def build_timm_vit(
    architecture: str, patch: int, size: int, **options: Any
) -> VisionTransformer:
    """Build a timm ViT without a head; on the meta device, it has no weights.

    Args:
        architecture: timm's name, with or without tag.
        patch: side of a patch, in pixels.
        size: side of the input, in pixels.
        **options: further arguments of `timm.create_model`.

    Returns:
        A network that maps (B, bands, size, size) to tokens (B, N, D), with the
        attributes of a VisionTransformer.

    Raises:
        RequestError: `size` is not a multiple of `patch`.
    """
    check_input_size(architecture, patch, size)
    vit = timm.create_model(architecture, num_classes=0, img_size=size, **options)
    if not hasattr(vit, "fc_norm"):  # CaiT normalizes before the pooling
        vit.fc_norm = nn.Identity()
    return cast(VisionTransformer, vit)


def structure_fault(network: nn.Module) -> str | None:
    """Return why a network cannot be fine-tuned as a vision transformer.

    Returns:
        The first missing attribute or layer, or the shape of the features if they are
        not tokens, as a sentence; None if it can be.
    """
    for attribute in _REQUIRED_ATTRIBUTES:
        value: Any = network
        for name in attribute.split("."):
            value = getattr(value, name, None)
        if value is None:
            return f"it has no {attribute}"
    vit = cast(VisionTransformer, network)
    if not isinstance(vit.embed_dim, int):
        return f"its embed_dim is {vit.embed_dim}, not one width"
    for index, block in enumerate(vit.blocks):
        layers = set()
        for name, module in block.named_modules():
            if type(module) is nn.Linear:
                layers.add(name)
        for alternatives in _REQUIRED_LAYERS:
            if not layers.intersection(alternatives):
                return f"blocks.{index} has no linear layer {' or '.join(alternatives)}"
    return _feature_fault(vit)


def _feature_fault(vit: VisionTransformer) -> str | None:
    """Return the shape of the features if they are not tokens, as a sentence."""
    tokens = vit.num_prefix_tokens + math.prod(vit.patch_embed.grid_size)
    expected = (1, tokens, vit.embed_dim)
    image = torch.empty(1, 3, *vit.patch_embed.img_size, device="meta")
    with torch.device("meta"), torch.no_grad():
        features = vit.eval().forward_features(image)
    shape: Any = type(features).__name__
    if isinstance(features, Tensor):
        shape = tuple(features.shape)
    if shape == expected:
        return None
    return f"its forward_features returns {shape}, not tokens {expected}"


@cache
def _checked_structure(name: str) -> tuple[int, int, frozenset[str]]:
    """Check the structure of a model.

    Returns:
        Side of the input and of a patch in pixels, and names of the tensors.
    """
    network = _on_meta_device(name)
    fault = structure_fault(network)
    if fault:
        raise RequestError(
            f"{name} cannot be fine-tuned as a vision transformer: {fault}",
            "backbone.name",
            "choose one that `rsft backbones ls` shows",
        )
    vit = cast(VisionTransformer, network)
    grid = vit.patch_embed.grid_size[0]
    patch = vit.patch_embed.img_size[0] // grid
    # an image that whole patches do not cover is cropped
    return grid * patch, patch, frozenset(vit.state_dict())
