"""The encoder in the rsft package: a small ViT, pre-trained on simulated ships.

The images are optical, not radar.

`tools/maintenance/pretrain_simship.py` writes the weights and the model card.
"""

from pathlib import Path
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.backbones.card import Card, check_input_size

NAME = "vit_tiny_patch8_64.simship"
WEIGHTS = (
    Path(__file__).parent / "pretrained" / "vit_tiny_patch8_64_simship.safetensors"
)
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
STEM = (24, 48, 96)
"""Channels of the stem's layers, each of which halves the side."""
STEM_GROUPS = 4
"""Groups of GroupNorm."""
MEAN = (0.4, 0.4, 0.4)
STD = (0.22, 0.22, 0.22)


def build_simship_vit(size: int = SIZE) -> VisionTransformer:
    """Build the encoder's architecture with random weights.

    Returns:
        A ViT that maps (B, 3, size, size) to tokens (B, 1 + (size / 8)^2, 192).

    Raises:
        RequestError: `size` is not a positive multiple of the patch side.
    """
    check_input_size(NAME, PATCH, size)
    vit = VisionTransformer(img_size=size, **ARCHITECTURE)
    vit.patch_embed.proj = _stem(vit.embed_dim)
    return vit


def _stem(width: int) -> nn.Sequential:
    """Return convolutions that replace the patch projection.

    Source: Xiao et al. 2021, https://arxiv.org/abs/2106.14881.
    """
    layers = []
    for before, after in zip((3, *STEM), STEM, strict=False):
        layers += [
            nn.Conv2d(before, after, 3, stride=2, padding=1),
            nn.GroupNorm(STEM_GROUPS, after),
            nn.GELU(),
        ]
    return nn.Sequential(*layers, nn.Conv2d(STEM[-1], width, 1))


CARDS = (
    Card(
        name=NAME,
        about=(
            "ViT-Ti/8 of 6 blocks, pre-trained on simulated optical ships; ships with"
            " rsft"
        ),
        size=SIZE,
        patch=PATCH,
        bands=("R", "G", "B"),
        unit="uint8",
        mean=MEAN,
        std=STD,
        license="MIT",
        weights=WEIGHTS,
        build=build_simship_vit,
        sensor="simulated optical images",
    ),
)
