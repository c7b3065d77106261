"""SatMAE ViT-L/16, pre-trained on optical satellite images of fMoW RGB.

Source: Cong et al. 2022, https://arxiv.org/abs/2207.08051, and https://github.com/sustainlab-group/SatMAE. The
published files contain the network, the optimizer and the arguments of the run. `fmow_pretrain.pth` is a masked
autoencoder: its decoder is left out, and its last norm applies to every token. `fmow_finetune.pth` was trained on the
mean of the patch tokens, and its last norm follows the mean: its tokens are not normalized, and the published feature
is `vit.fc_norm(tokens[:, 1:].mean(1))`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.backbones.card import Card, Remote, check_input_size, drop_tensors

RGB_MEAN = (0.4182007312774658, 0.4214799106121063, 0.3991275727748871)
RGB_STD = (0.28774282336235046, 0.27541765570640564, 0.2764017581939697)
"""Mean and standard deviation of fMoW RGB, from util/datasets.py of the authors' code."""
LICENSE = "unknown; the code is CC-BY-NC-4.0"
"""LICENSE and README.md of the authors' repository; neither names the weights."""

LARGE: dict[str, Any] = {"embed_dim": 1024, "depth": 24, "num_heads": 16}
NORM = partial(nn.LayerNorm, eps=1e-6)
PATCH = 16
DECODER = ("mask_token", "decoder_embed", "decoder_pos_embed", "decoder_blocks", "decoder_norm", "decoder_pred")
"""Modules and tensors of a masked autoencoder that do not belong to its encoder."""


def build_satmae_vit(
    name: str, mean_pooled: bool, size: int, architecture: dict[str, Any] = LARGE
) -> VisionTransformer:
    """Build SatMAE's architecture for RGB with random weights.

    Args:
        name: name of the encoder, for messages.
        mean_pooled: True if the last norm follows the mean of the patch tokens (`vit.fc_norm`) instead of every token.
        size: side of the input, in pixels.
        architecture: width, depth and heads.

    Returns:
        A ViT that maps (B, 3, size, size) to tokens (B, 1 + (size / 16)^2, D).

    Raises:
        RequestError: `size` is not a positive multiple of the patch side.
    """
    check_input_size(name, PATCH, size)
    return VisionTransformer(
        img_size=size,
        patch_size=PATCH,
        norm_layer=NORM,
        global_pool="avg" if mean_pooled else "token",
        num_classes=0,
        **architecture,
    )


def _card(name: str, about: str, file: str, mean_pooled: bool) -> Card:
    page = "https://zenodo.org/record/7369797"
    return Card(
        name=name,
        about=f"SatMAE ViT-L/16, {about}",
        size=224,
        patch=PATCH,
        bands=("R", "G", "B"),
        unit="uint8",
        mean=RGB_MEAN,
        std=RGB_STD,
        license=LICENSE,
        weights=Remote(file, f"{page}/files/{file}", bytes=None, sha256=None, page=page),
        build=partial(build_satmae_vit, name, mean_pooled),
        convert=lambda state: drop_tensors(state, *(("head",) if mean_pooled else DECODER)),
        antialias=False,  # as in util/pos_embed.py of the authors' code
        sensor="WorldView, GeoEye, QuickBird",
    )


CARDS = (
    _card("satmae_vit_large_patch16_224.fmow_rgb", "pre-trained on fMoW RGB, 800 epochs", "fmow_pretrain.pth", False),
    _card("satmae_vit_large_patch16_224.fmow_rgb_ft", "fine-tuned on fMoW RGB, 62 classes", "fmow_finetune.pth", True),
)
