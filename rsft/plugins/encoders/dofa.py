"""DOFA for the bands of Sentinel-1 and of Sentinel-2.

Source: Xiong et al. 2024, https://arxiv.org/abs/2403.15356.

A small network computes the filters of the patch embedding from the wavelengths of the
bands. For given bands the filters are constant, so `convert_dofa` computes them once,
and the encoder is a plain vision transformer. Its convolution pads the image by one
pixel. The published files have no last norm: as in the code of the authors and of
TorchGeo, it starts as a norm without scale and shift, after the mean of the patch
tokens (`vit.fc_norm`).

The files are those of TorchGeo, which it calls version 1. Their convention for
Sentinel-1 is a wavelength of 3.75 for both bands
(https://github.com/torchgeo/torchgeo/pull/3942), which is no physical one. So both
bands have the same filters, and the encoder only sees the sum of the normalized bands.
Version 2 has another convention, 5.405.

Pre-training used SatlasPretrain: digital numbers of Sentinel-1 GRD, clipped to 255;
bytes of the true-color image of Sentinel-2, and digital numbers of its other bands
divided by 32. Mean and standard deviation of these bytes are in the README.md of
https://github.com/zhu-xlab/DOFA, in the order VV, VH, as its example reads the files.
"""

from collections.abc import Sequence
from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.backbones.card import Card, Remote, State, drop_tensors
from rsft.backbones.mae import BASE, LARGE, build_mae_vit
from rsft.types import JsonObject

PATCH = 16
WAVE_WIDTH = 128
SCALE = 0.01  # side of a patch, width of the wave features, factor of the filters
_GENERATOR = ("patch_embed.weight_generator", "patch_embed.fclayer")

_BYTE = 32  # digital numbers of the bands of Sentinel-2 that are no bytes
SENTINEL1 = {
    "VV": (3.75, 166.36275909 / 255, 64.83126309 / 255),
    "VH": (3.75, 88.45542715 / 255, 43.07350145 / 255),
}
SENTINEL2 = {
    "TCI_R": (0.665, 114.1099739, 77.84352553),
    "TCI_G": (0.56, 114.81779093, 69.96844919),
    "TCI_B": (0.49, 126.63977424, 67.42465279),
    "B05": (0.705, _BYTE * 84.33539309, _BYTE * 64.57022983),
    "B06": (0.74, _BYTE * 97.84789168, _BYTE * 61.72545487),
    "B07": (0.783, _BYTE * 103.94461911, _BYTE * 61.34187099),
    "B08": (0.842, _BYTE * 101.435633, _BYTE * 60.29744676),
    "B11": (1.61, _BYTE * 72.32804172, _BYTE * 47.88519516),
    "B12": (2.19, _BYTE * 56.66528851, _BYTE * 42.55886798),
}
"""Wavelength in micrometers, mean and standard deviation of each band."""


def build_dofa_vit(
    name: str, architecture: JsonObject, bands: int, size: int
) -> VisionTransformer:
    """Build an encoder with random weights.

    It maps images (B, bands, size, size) to tokens (B, 1 + (size / 16)^2, D).

    Args:
        name: name of the encoder, for messages.
        architecture: width, depth and heads.
        bands: number of bands.
        size: side of the input, in pixels.

    Returns:
        A ViT whose last norm follows the mean of the patch tokens.

    Raises:
        RequestError: `size` is not a positive multiple of the patch side.
    """
    vit = build_mae_vit(name, architecture, True, size, PATCH, in_chans=bands)
    vit.patch_embed.proj = nn.Conv2d(
        bands, vit.embed_dim, PATCH, stride=PATCH, padding=1
    )
    return vit


def convert_dofa(state: State, wavelengths: Sequence[float]) -> State:
    """Return the tensors of an encoder with new tensors: the filters of its bands.

    Args:
        state: a checkpoint of TorchGeo or of the authors, or one that this function has
            converted.
        wavelengths: wavelength of each band, in micrometers.

    Returns:
        Name -> tensor. Unknown tensors keep their names, so that the loader refuses
        them.
    """
    tensors = drop_tensors(state, "mask_token", "projector", "norm", "head")
    if "cls_token" in tensors and "fc_norm.weight" not in tensors:
        width = tensors["cls_token"].shape[-1]
        tensors |= {
            "fc_norm.weight": torch.ones(width),
            "fc_norm.bias": torch.zeros(width),
        }
    filters = _generate_filters(tensors, wavelengths)
    if filters:
        tensors = drop_tensors(tensors, *_GENERATOR) | filters
    return tensors


@torch.no_grad()
def _generate_filters(tensors: State, wavelengths: Sequence[float]) -> State:
    """Return weight and bias of the patch embedding.

    The result is empty if the tensors that compute them are missing or damaged.
    The result hardly depends on the processor, which the hash of the encoder needs: it
    is computed in float64. Only the angles are rounded to float32, as in the authors'
    code, because their rounding changes the features of large ones.
    """
    from torchgeo.models.dofa import DOFAEmbedding  # imports all of torchgeo.models

    names = [name for name in tensors if name.startswith(_GENERATOR)]
    generator = {name.removeprefix("patch_embed."): tensors[name] for name in names}
    if "cls_token" not in tensors or not generator:
        return {}
    width = tensors["cls_token"].shape[-1]
    with torch.device("meta"):
        embedding = DOFAEmbedding(WAVE_WIDTH, PATCH, width)
    try:
        embedding.load_state_dict(generator, assign=True)
    except RuntimeError:  # the loader names the tensors, because they stay
        return {}
    half = WAVE_WIDTH // 2
    frequencies = (
        1 / (10_000 ** (torch.arange(half, dtype=torch.float64) / half)).float()
    )
    angles = (torch.tensor(wavelengths)[:, None] * 1000 * frequencies).double()
    embedding.double()
    waves = embedding.fclayer(torch.cat([angles.sin(), angles.cos()], dim=1))
    weight, bias = embedding.weight_generator(waves)
    weight = weight.view(len(wavelengths), PATCH, PATCH, width).permute(3, 0, 1, 2)
    return {
        "patch_embed.proj.weight": (SCALE * weight).float().contiguous(),
        "patch_embed.proj.bias": (SCALE * bias).float().contiguous(),
    }


def _card(kind: str, digits: str, architecture: JsonObject, mission: int) -> Card:
    """Return the card of an encoder for the bands of Sentinel-1 or Sentinel-2."""
    name = f"dofa_vit_{kind}_patch16_224.sentinel{mission}"
    page = "https://huggingface.co/torchgeo/dofa"
    file = f"dofa_{kind}_patch16_224-{digits}.pth"
    commit = "b8db318b64a90b9e085ec04ba8851233c5893666"
    if mission == 1:
        bands = SENTINEL1
        unit = "uint8"
        filters = "the same filters for VV and VH"
    else:
        bands = SENTINEL2
        unit = "uint16"
        filters = "filters of nine bands of Sentinel-2"
    wavelengths, mean, std = zip(*bands.values(), strict=True)
    return Card(
        name=name,
        about=(
            f"DOFA ViT-{kind[0].upper()}/16 with {filters}, pre-trained on"
            " SatlasPretrain and others"
        ),
        size=224,
        patch=PATCH,
        bands=tuple(bands),
        unit=unit,
        mean=mean,
        std=std,
        license="CC-BY-4.0",  # docs/api/weights/agnostic.csv of TorchGeo
        weights=Remote(
            file, f"{page}/resolve/{commit}/{file}", sha256=digits, page=page
        ),
        build=partial(build_dofa_vit, name, architecture, len(bands)),
        convert=partial(convert_dofa, wavelengths=wavelengths),
        antialias=False,  # as in util/pos_embed.py of the authors' code
        sensor=f"Sentinel-{mission}",
    )


CARDS = (
    _card("base", "a0275954", BASE, 1),
    _card("base", "a0275954", BASE, 2),
    _card("large", "0ff904d3", LARGE, 1),
    _card("large", "0ff904d3", LARGE, 2),
)
"""The encoders, with the addresses of TorchGeo's enums. The names of the files have 8
digits of their SHA-256."""
