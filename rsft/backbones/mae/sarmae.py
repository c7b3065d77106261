"""SARMAE ViT-B/16 and ViT-L/16, pre-trained on one million radar images (SAR-1M) of several sensors.

Source: Liu et al., CVPR 2026, https://arxiv.org/abs/2512.16635, and https://github.com/MiliLab/SARMAE. The encoder is
timm's plain ViT. Its images are gray, repeated as three planes, with the mean and standard deviation of ImageNet
(dataset/transforms.py). The training script stores the masked autoencoder as `sar_encoder`, beside a frozen optical
encoder and a projection to its features (models/mae_contrastive.py), which are left out.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from rsft.backbones.card import Card, Remote, State, check_input_size, drop_tensors
from rsft.backbones.mae.satmae import DECODER, LARGE, NORM

BASE: dict[str, Any] = {"embed_dim": 768, "depth": 12, "num_heads": 12}
PATCH = 16
LICENSE = "no license published; the README states CC-BY-NC-4.0"
"""The README refers to a file LICENSE that the repository does not contain."""

_ENCODER, _PARALLEL = "sar_encoder.", "module."  # prefixes of names in the checkpoint
_UNUSED = ("optical_encoder", "sar_alignment_ffn")


def build_sarmae_vit(name: str, architecture: dict[str, Any], size: int) -> VisionTransformer:
    """Build SARMAE's encoder with random weights.

    Args:
        name: name of the encoder, for messages.
        architecture: width, depth and heads.
        size: side of the input, in pixels.

    Returns:
        A ViT that maps (B, 3, size, size) to tokens (B, 1 + (size / 16)^2, D).

    Raises:
        RequestError: `size` is not a positive multiple of the patch side.
    """
    check_input_size(name, PATCH, size)
    return VisionTransformer(img_size=size, patch_size=PATCH, norm_layer=NORM, num_classes=0, **architecture)


def convert_sarmae(state: State) -> dict[str, Tensor]:
    """Return the tensors of the radar encoder, without decoder, optical encoder and projection.

    Args:
        state: a checkpoint of the training script, or of the masked autoencoder alone.

    Returns:
        Name -> tensor, with timm's names. Tensors that the training script does not write keep their names.
    """
    plain = {name.removeprefix(_PARALLEL): tensor for name, tensor in state.items()}
    used = drop_tensors(plain, *_UNUSED) if any(name.startswith(_ENCODER) for name in plain) else plain
    return drop_tensors({name.removeprefix(_ENCODER): tensor for name, tensor in used.items()}, *DECODER)


def _card(kind: str, architecture: dict[str, Any]) -> Card:
    name = f"sarmae_vit_{kind}_patch16_224.sar1m"
    file = f"SARMAE_vit{kind[0]}_checkpoint-last"
    page = "https://huggingface.co/Wenquandan777/SARMAE"
    return Card(
        name=name,
        about=f"SARMAE ViT-{kind[0].upper()}/16, pre-trained on SAR-1M; gray repeated as R, G, B",
        size=224,
        patch=PATCH,
        bands=("R", "G", "B"),
        unit="uint8",
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        license=LICENSE,
        weights=Remote(file, f"{page}/resolve/main/{file}", bytes=None, sha256=None, page=page),
        build=partial(build_sarmae_vit, name, architecture),
        convert=convert_sarmae,
        antialias=False,  # as in util/pos_embed.py of the authors' code
        sensor="SAR, several sensors",
    )


CARDS = (_card("base", BASE), _card("large", LARGE))
