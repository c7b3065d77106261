"""Tables of docs/backbones.md: every listed encoder, encoders that are refused, and the restrictions of licenses.

The rows of timm and TorchGeo depend on the installed versions, which the first line of the table names.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from rsft.backbones.catalog import ListedEncoder, list_card, listing_text
from rsft.backbones.registry import cards, find_card
from rsft.errors import RequestError
from rsft.utils.licenses import RESTRICTIONS

REFUSED_IN_0_1 = (
    "resnet50.a1_in1k",
    "convnext_base.fb_in22k",
    "swin_base_patch4_window7_224.ms_in22k",
    "swinv2_base_window12_192.ms_in22k",
    "hiera_base_224.mae_in1k_ft_in1k",
    "beitv2_base_patch16_224.in1k_ft_in22k",
    "samvit_base_patch16.sa1b",
    "mobilenetv3_large_100.ra_in1k",
    "ResNet50_Weights.SENTINEL2_ALL_MOCO",
    "Swin_V2_B_Weights.SENTINEL1_SI_SATLAS",
    "ViTSmall16_Weights.SENTINEL1_GRD_CLOSP",
    "ResNet50_Weights.SENTINEL2_RGB_SECO",
    "Unet_Weights.SENTINEL2_2CLASS_FTW",
    "CROMABase_Weights.CROMA_VIT",
    "DOFABase16_Weights.DOFA_MAE",
    "CopernicusFM_Base_Weights.CopernicusFM_ViT",
    "Panopticon_Weights.VIT_BASE14",
    "Aurora_Weights.HRES_T0_PRETRAINED_AURORA",
    "EarthLoc_Weights.SENTINEL2_RESNET50",
)
"""One encoder of each family that version 0.1 refused. A row of the table states whether it loads today."""


def installed_versions() -> str:
    """Return the sentence with the versions that determine the rows."""
    return f"Rows of timm {version('timm')} and TorchGeo {version('torchgeo')}."


@cache
def encoder_rows() -> list[tuple[str, ...]]:
    """Return encoder, sensor, parameters, input, license, restrictions and whether it loads, for every row."""
    listed = cards()
    rows = [_row(encoder) for encoder in _encoders()]
    return rows + [_unlisted_row(name) for name in REFUSED_IN_0_1 if name not in listed]


def listing() -> str:
    """Return the content of rsft/backbones/encoders.json."""
    return listing_text(_encoders())


def restriction_rows() -> list[tuple[str, ...]]:
    """Return name and meaning of every restriction."""
    return [(f"`{name}`", meaning) for name, meaning in RESTRICTIONS.items()]


def _unlisted_row(name: str) -> tuple[str, ...]:
    try:
        return _row(list_card(find_card(name)))
    except RequestError as error:
        return f"`{name}`", "", "", "", "", "", f"no: {error.message.split(': ', 1)[-1]}"


@cache
def _encoders() -> list[ListedEncoder]:
    """Return all listed encoders; the parameters of each network are counted."""
    return [list_card(card) for card in cards().values()]


def _row(encoder: ListedEncoder) -> tuple[str, ...]:
    parameters = f"{encoder.parameters / 1e6:.1f} M"
    bands = " ".join(encoder.bands) if len(encoder.bands) < 4 else f"{len(encoder.bands)} bands"
    side, restrictions = f"{bands}, {encoder.size} px", ", ".join(encoder.restrictions) or "none"
    return f"`{encoder.name}`", encoder.sensor, parameters, side, encoder.license, restrictions, "yes"
