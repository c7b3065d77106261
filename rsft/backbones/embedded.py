"""The encoder that ships with the package: a small ViT pre-trained on simulated optical ships, no radar involved.

Its weights and model card are written by tools/pretrain_embedded.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.errors import RequestError, WeightsError
from rsft.files import sha256

NAME = "vit_tiny_patch8_64.simship"
WEIGHTS = Path(__file__).parent / "weights" / "vit_tiny_patch8_64_simship.safetensors"
CARD = WEIGHTS.with_suffix(".json")

PATCH = 8
SIZE = 64
ARCHITECTURE: dict[str, Any] = {
    "patch_size": PATCH,
    "embed_dim": 192,
    "depth": 6,
    "num_heads": 3,
    "mlp_ratio": 2.0,
    "global_pool": "token",
    "num_classes": 0,
}
STEM, STEM_GROUPS = (24, 48, 96), 4  # channels of the stem, each layer halves the side
MEAN, STD = (0.4, 0.4, 0.4), (0.22, 0.22, 0.22)


def build(size: int = SIZE) -> VisionTransformer:
    """The architecture with random weights for inputs (B, 3, size, size); tokens (B, 1 + (size / 8)^2, 192).

    Raises:
        RequestError: `size` is no positive multiple of the patch side.
    """
    if size < PATCH or size % PATCH:
        near = max(PATCH, round(size / PATCH) * PATCH)
        raise RequestError(f"{NAME} takes input sides that are multiples of {PATCH}, not {size}", "size", f"try {near}")
    vit = VisionTransformer(img_size=size, **ARCHITECTURE)
    vit.patch_embed.proj = _stem(vit.embed_dim)
    return vit


def _stem(width: int) -> nn.Sequential:
    """Convolutions in place of one large patch projection (Xiao et al. 2021, https://arxiv.org/abs/2106.14881)."""
    layers: list[nn.Module] = []
    channels = (3, *STEM)
    for before, after in zip(channels, STEM, strict=False):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(STEM_GROUPS, after), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(STEM[-1], width, 1))


def load_embedded(size: int) -> tuple[VisionTransformer, dict[str, Any]]:
    """The pre-trained encoder in float32 for inputs of `size` x `size` pixels, and its model card.

    Raises:
        RequestError: `size` is no multiple of the patch side.
        WeightsError: the weights file is missing, altered or incomplete.
    """
    vit = build(size)
    reinstall = "install rsft anew"
    if not (WEIGHTS.is_file() and CARD.is_file()):
        raise WeightsError(f"the weights of {NAME} are missing", WEIGHTS, reinstall)
    card: dict[str, Any] = json.loads(CARD.read_text())
    if sha256(WEIGHTS) != card["sha256"]:
        raise WeightsError(f"the weights of {NAME} differ from its model card", WEIGHTS, reinstall)
    state = {key: value.float() for key, value in safetensors.torch.load_file(WEIGHTS).items()}
    grid = [size // PATCH] * 2
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], new_size=grid, num_prefix_tokens=1)
    expected = vit.state_dict()
    if state.keys() != expected.keys():
        raise WeightsError(f"the weights of {NAME} lack or exceed its {len(expected)} tensors", WEIGHTS, reinstall)
    vit.load_state_dict(state)
    return vit, card
