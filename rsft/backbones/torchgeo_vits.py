"""Cards of TorchGeo's vision transformers for Sentinel-1, Sentinel-2, Landsat and fMoW.

The tables repeat `weights.url`, `weights.meta` and `weights.transforms` of TorchGeo 0.8.1, because importing TorchGeo
takes seconds. A test compares them with the installed version. TorchGeo does not declare the unit of the input; it is
inferred from the numbers of the normalization.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from timm.models.vision_transformer import VisionTransformer

from rsft.backbones.card import Card, Remote, State, drop_tensors
from rsft.backbones.satmae import DECODER
from rsft.backbones.timm_vits import build_timm_vit
from rsft.data.imagery.bands import SENTINEL2
from rsft.errors import RequestError

PREFIX = "torchgeo:"
SIZE = 224
_HUB = "https://huggingface.co"
_MAE_UNUSED = ("head", *DECODER)  # the authors publish checkpoints of whole masked autoencoders


@dataclass(frozen=True)
class _Repository:
    """A repository on the Hugging Face hub.

    Attributes:
        repo: owner and name.
        revision: commit.
        trained: data set and method of the pre-training.
        license: license of the weights.
        unused: modules and tensors of the files that do not belong to the encoder.
    """

    repo: str
    revision: str
    trained: str
    license: str
    unused: tuple[str, ...] = ("head",)


_CLOSP = _Repository(
    "DarthReca/CLOSP-Visual",
    "3bb8677c21dac56bea2dd7baa08d7871272db440",
    "CrisisLandMark, CLOSP",
    "CreativeML-OpenRAIL-M",
)
_DINO = _Repository(
    "torchgeo/vit_small_patch16_224_sentinel2_all_dino",
    "5b41dd418a79de47ac9f5be3e035405a83818a62",
    "SSL4EO-S12, DINO",
    "CC-BY-4.0",
)
_MOCO = _Repository(
    "torchgeo/vit_small_patch16_224_sentinel2_all_moco",
    "1cb683f6c14739634cdfaaceb076529adf898c74",
    "SSL4EO-S12, MoCo v3",
    "CC-BY-4.0",
)
_FGMAE = _Repository(
    "wangyi111/FGMAE",
    "24dd3077d7a99ecd454eaec7adb83d045d7fa122",
    "SSL4EO-S12, FG-MAE",
    "CC-BY-4.0",
    (*_MAE_UNUSED, "hog"),
)
_LANDSAT = _Repository("torchgeo/ssl4eo_landsat", "1c88bb51b6e17a21dde5230738fa38b74bd74f76", "SSL4EO-L", "CC0-1.0")
_SCALE_MAE = _Repository(
    "isaaccorley/vit_large_patch16_224_fmow_rgb_scalemae",
    "9dc7f569424baeb780698352cf6e87638c882123",
    "fMoW, Scale-MAE",
    "CC-BY-NC-4.0",
)
_SOFTCON = _Repository(
    "wangyi111/softcon",
    "bae909781911f8ec034b4b959992fae17b973c0c",
    "SSL4EO-S12, SoftCon",
    "CC-BY-4.0",
    ("head", "mask_token"),
)
_SSL4EO = _Repository(
    "wangyi111/SSL4EO-S12", "75c72195d35201dc1fb210818993518c25da566b", "SSL4EO-S12, MAE", "CC-BY-4.0", _MAE_UNUSED
)

_FILES = {
    "ViTSmall16_Weights.LANDSAT_TM_TOA_MOCO": (_LANDSAT, "vits16_landsat_tm_toa_moco-a1c967d8.pth"),
    "ViTSmall16_Weights.LANDSAT_TM_TOA_SIMCLR": (_LANDSAT, "vits16_landsat_tm_toa_simclr-7c2d9799.pth"),
    "ViTSmall16_Weights.LANDSAT_ETM_TOA_MOCO": (_LANDSAT, "vits16_landsat_etm_toa_moco-26d19bcf.pth"),
    "ViTSmall16_Weights.LANDSAT_ETM_TOA_SIMCLR": (_LANDSAT, "vits16_landsat_etm_toa_simclr-34fb12cb.pth"),
    "ViTSmall16_Weights.LANDSAT_ETM_SR_MOCO": (_LANDSAT, "vits16_landsat_etm_sr_moco-eaa4674e.pth"),
    "ViTSmall16_Weights.LANDSAT_ETM_SR_SIMCLR": (_LANDSAT, "vits16_landsat_etm_sr_simclr-a14c466a.pth"),
    "ViTSmall16_Weights.LANDSAT_OLI_TIRS_TOA_MOCO": (_LANDSAT, "vits16_landsat_oli_tirs_toa_moco-c7c2cceb.pth"),
    "ViTSmall16_Weights.LANDSAT_OLI_TIRS_TOA_SIMCLR": (_LANDSAT, "vits16_landsat_oli_tirs_toa_simclr-ad43e9a4.pth"),
    "ViTSmall16_Weights.LANDSAT_OLI_SR_MOCO": (_LANDSAT, "vits16_landsat_oli_sr_moco-c9b8898d.pth"),
    "ViTSmall16_Weights.LANDSAT_OLI_SR_SIMCLR": (_LANDSAT, "vits16_landsat_oli_sr_simclr-4e8f6102.pth"),
    "ViTSmall16_Weights.SENTINEL2_ALL_CLOSP": (_CLOSP, "closp-vs_s2_encoder-1a3ee5a5.pth"),
    "ViTSmall16_Weights.SENTINEL2_ALL_DINO": (_DINO, "vit_small_patch16_224_sentinel2_all_dino-36bcc127.pth"),
    "ViTSmall16_Weights.SENTINEL2_ALL_MOCO": (_MOCO, "vit_small_patch16_224_sentinel2_all_moco-67c9032d.pth"),
    "ViTSmall16_Weights.SENTINEL2_ALL_MAE": (_SSL4EO, "B13_vits16_mae_ep99_enc.pth"),
    "ViTSmall16_Weights.SENTINEL2_ALL_FGMAE": (_FGMAE, "B13_vits16_fgmae_ep99_enc.pth"),
    "ViTSmall16_Weights.SENTINEL1_GRD_MAE": (_SSL4EO, "B2_vits16_mae_ep99_enc.pth"),
    "ViTSmall16_Weights.SENTINEL1_GRD_FGMAE": (_FGMAE, "B2_vits16_fgmae_ep99_enc.pth"),
    "ViTBase16_Weights.SENTINEL2_ALL_MAE": (_SSL4EO, "B13_vitb16_mae_ep99_enc.pth"),
    "ViTBase16_Weights.SENTINEL2_ALL_FGMAE": (_FGMAE, "B13_vitb16_fgmae_ep99_enc.pth"),
    "ViTBase16_Weights.SENTINEL1_GRD_MAE": (_SSL4EO, "B2_vitb16_mae_ep99_enc.pth"),
    "ViTBase16_Weights.SENTINEL1_GRD_FGMAE": (_FGMAE, "B2_vitb16_fgmae_ep99_enc.pth"),
    "ViTLarge16_Weights.SENTINEL2_ALL_CLOSP": (_CLOSP, "closp-vl_s2_encoder-4a4f026a.pth"),
    "ViTLarge16_Weights.SENTINEL2_ALL_MAE": (_SSL4EO, "B13_vitl16_mae_ep99_enc.pth"),
    "ViTLarge16_Weights.SENTINEL2_ALL_FGMAE": (_FGMAE, "B13_vitl16_fgmae_ep99_enc.pth"),
    "ViTLarge16_Weights.SENTINEL1_GRD_MAE": (_SSL4EO, "B2_vitl16_mae_ep99_enc.pth"),
    "ViTLarge16_Weights.SENTINEL1_GRD_FGMAE": (_FGMAE, "B2_vitl16_fgmae_ep99_enc.pth"),
    "ViTHuge14_Weights.SENTINEL2_ALL_MAE": (_SSL4EO, "B13_vith14_mae_ep199_enc.pth"),
    "ViTHuge14_Weights.SENTINEL2_ALL_FGMAE": (_FGMAE, "B13_vith14_fgmae_ep399_enc.pth"),
    "ViTHuge14_Weights.SENTINEL1_GRD_MAE": (_SSL4EO, "B2_vith14_mae_ep199_enc.pth"),
    "ViTHuge14_Weights.SENTINEL1_GRD_FGMAE": (_FGMAE, "B2_vith14_fgmae_ep399_enc.pth"),
    "ViTSmall14_DINOv2_Weights.SENTINEL2_ALL_SOFTCON": (_SOFTCON, "B13_vits14_softcon_enc.pth"),
    "ViTSmall14_DINOv2_Weights.SENTINEL1_GRD_SOFTCON": (_SOFTCON, "B2_vits14_softcon_enc.pth"),
    "ViTBase14_DINOv2_Weights.SENTINEL2_ALL_SOFTCON": (_SOFTCON, "B13_vitb14_softcon_enc.pth"),
    "ViTBase14_DINOv2_Weights.SENTINEL1_GRD_SOFTCON": (_SOFTCON, "B2_vitb14_softcon_enc.pth"),
    "ScaleMAELarge16_Weights.FMOW_RGB": (_SCALE_MAE, "vit_large_patch16_224_fmow_rgb_scalemae-98ed9821.pth"),
}
NAMES = tuple(_FILES)

_PUBLISHED = {
    "vits16_landsat_oli_sr_simclr-4e8f6102.pth": (
        88_283_541,
        "4e8f61023fdb7f3aff2eb91efe4aab4f50bdf05f59b3a07afddf40d1195d6940",
    ),
    "vit_small_patch16_224_sentinel2_all_dino-36bcc127.pth": (
        90_644_269,
        "36bcc1273227252faf98e1d9f32c35166d3612d30dc0c15812c29bed6da9a7d5",
    ),
    "vit_small_patch16_224_sentinel2_all_moco-67c9032d.pth": (
        90_668_909,
        "67c9032df0449ae37f93c51696bcae0c6dc3485103deb44b4669e9897b90409c",
    ),
    "vit_large_patch16_224_fmow_rgb_scalemae-98ed9821.pth": (  # its hash does not begin with the digits in its name
        1_213_304_038,
        "386989c9cf349a5045c2ac76f7d0225ae3a54b2a2c158fa87e5df5103e5d9ed9",
    ),
}
"""Size in bytes and SHA-256, from the hub's commits. Of other files only the digits in their name are known, if any."""

_ARCHITECTURES = {
    "ViTSmall16": ("vit_small_patch16_224", 16),
    "ViTBase16": ("vit_base_patch16_224", 16),
    "ViTLarge16": ("vit_large_patch16_224", 16),
    "ViTHuge14": ("vit_huge_patch14_224", 14),
    "ViTSmall14_DINOv2": ("vit_small_patch14_dinov2", 14),
    "ViTBase14_DINOv2": ("vit_base_patch14_dinov2", 14),
    "ScaleMAELarge16": ("vit_large_patch16_224", 16),
}

Scale = tuple[tuple[str, ...], str, tuple[float, ...], tuple[float, ...]]  # bands, unit, mean and std in that unit


def _bytes(*bands: str) -> Scale:
    return bands, "uint8", (0.0,) * len(bands), (1.0,) * len(bands)


_SCALES: dict[str, Scale] = {
    "LANDSAT_TM_TOA": _bytes("B1", "B2", "B3", "B4", "B5", "B6", "B7"),
    "LANDSAT_ETM_TOA": _bytes("B1", "B2", "B3", "B4", "B5", "B6_VCID_1", "B6_VCID_2", "B7", "B8"),
    "LANDSAT_ETM_SR": _bytes("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7"),
    "LANDSAT_OLI_TIRS_TOA": _bytes("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11"),
    "LANDSAT_OLI_SR": _bytes("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6", "SR_B7"),
    "SENTINEL2_ALL": (SENTINEL2, "uint16", (0.0,) * 13, (10_000.0,) * 13),
    "SENTINEL2_ALL_SOFTCON": (
        SENTINEL2,
        "uint16",
        (1612.9, 1397.6, 1322.3, 1373.1, 1561.0, 2108.4, 2390.7, 2318.7, 2581.0, 837.7, 22.0, 2195.2, 1537.4),
        (791.0, 854.3, 878.7, 1144.9, 1127.5, 1164.2, 1276.0, 1249.5, 1345.9, 577.5, 47.5, 1340.0, 1142.9),
    ),
    "SENTINEL1_GRD": (("VV", "VH"), "db", (-12.59, -20.26), (5.26, 5.91)),
    "FMOW_RGB": (("R", "G", "B"), "uint8", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}

_REFUSED = {
    "ViT(Small|Large)16_Weights.SENTINEL1_GRD_CLOSP": "TorchGeo declares neither unit nor normalization of its input",
    "ResNet|Unet": "it is convolutional and has no tokens",
    "Swin|Aurora": "it merges its tokens from stage to stage",
    "DOFA|CopernicusFM|Panopticon": "it needs wavelengths or channel numbers besides the image",
    "CROMA|EarthLoc": "its network is not a timm model",
}


def torchgeo_card(name: str) -> Card | None:
    """Return the card of weights that TorchGeo publishes.

    Args:
        name: weights enum and member, such as "ViTSmall16_Weights.SENTINEL1_GRD_MAE", with or without the prefix
            "torchgeo:". The card's name has no prefix.

    Returns:
        The card; None if the name is not that of TorchGeo weights.

    Raises:
        RequestError: TorchGeo has no such weights, or their network cannot be fine-tuned.
    """
    weights_name = name.removeprefix(PREFIX)
    if weights_name not in _FILES:
        if "_Weights" in weights_name or weights_name != name:
            raise _refusal_error(weights_name)
        return None
    repository, file = _FILES[weights_name]
    family, member = weights_name.split("_Weights.")
    architecture, patch = _ARCHITECTURES[family]
    bands, unit, mean, std = _SCALES[member] if member in _SCALES else _SCALES[member.rpartition("_")[0]]
    digits = re.search(r"-([0-9a-f]{8})\.pth$", file)
    size, digest = _PUBLISHED.get(file, (None, digits and digits[1]))
    page = f"{_HUB}/{repository.repo}"
    return Card(
        name=weights_name,
        about=f"TorchGeo {architecture}, trained on {repository.trained}",
        size=SIZE,
        patch=patch,
        bands=bands,
        unit=unit,
        mean=mean,
        std=std,
        license=repository.license,
        weights=Remote(file, f"{page}/resolve/{repository.revision}/{file}", size, digest, page),
        build=_build_fn(architecture, patch, len(bands)),
        convert=_convert_scale_mae
        if repository is _SCALE_MAE
        else lambda state: drop_tensors(state, *repository.unused),
    )


@cache
def _build_fn(architecture: str, patch: int, bands: int) -> Callable[[int], VisionTransformer]:
    return partial(build_timm_vit, architecture, patch, in_chans=bands)


def _refusal_error(name: str) -> RequestError:
    closest = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {closest[0]}?" if closest else "`rsft backbones ls torchgeo` lists the weights that work"
    for pattern, reason in _REFUSED.items():
        if re.match(pattern, name):
            return RequestError(f"{name} of TorchGeo cannot be fine-tuned: {reason}", "backbone.name", hint)
    return RequestError(f"TorchGeo has no weights called {name}", "backbone.name", hint)


def _convert_scale_mae(state: State) -> dict[str, torch.Tensor]:
    """Drop the head of a Scale-MAE checkpoint and compute its position embedding for pixels of 1 m, TorchGeo's default.

    Source: Reed et al. 2023, equation 1, https://arxiv.org/abs/2212.14532. For a larger input the embedding is
    resampled, as if its pixels were smaller.
    """
    tensors = drop_tensors(state, "head")
    if "cls_token" in tensors:
        tensors["pos_embed"] = _sincos_positions(tensors["cls_token"].shape[-1], SIZE // 16)
    return tensors


def _sincos_positions(width: int, side: int) -> torch.Tensor:
    """Return sines and cosines of column and row, and zeros for the class token: (1, 1 + side * side, width)."""
    steps = torch.arange(width // 4) / (width / 4)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [coordinate.reshape(-1, 1) * 10_000.0**-steps for coordinate in (columns, rows)]
    waves = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)
    return torch.cat([torch.zeros(1, width), waves])[None]
