"""Tables of docs/backbones.md: every listed encoder, encoders that are refused, and the restrictions of licenses.

The rows of timm and TorchGeo depend on the installed versions, which the first line of the table names.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from importlib.metadata import version

from rsft.backbones.catalog import ListedEncoder, list_card, listing_text
from rsft.backbones.registry import cards, find_card
from rsft.errors import RequestError
from rsft.utils.licenses import RESTRICTIONS

UNSUPPORTED = (
    "hiera_base_224.mae_in1k_ft_in1k",
    "samvit_base_patch16.sa1b",
    "mobilenetv3_large_100.ra_in1k",
    "ViTSmall16_Weights.SENTINEL1_GRD_CLOSP",
    "ResNet50_Weights.SENTINEL2_RGB_SECO",
    "Unet_Weights.SENTINEL2_2CLASS_FTW",
    "CROMABase_Weights.CROMA_VIT",
    "DOFABase16_Weights.DOFA_MAE",
    "Aurora_Weights.HRES_T0_PRETRAINED_AURORA",
    "EarthLoc_Weights.SENTINEL2_RESNET50",
)
"""One encoder for each reason not to load. A row of the table states the reason."""


def installed_versions() -> str:
    """Return the sentence with the versions that determine the rows."""
    return f"Rows of timm {version('timm')} and TorchGeo {version('torchgeo')}."


@cache
def encoder_rows() -> list[tuple[str, ...]]:
    """Return encoder, sensor, parameters, input, license, restrictions and whether it loads.

    TorchGeo's weights of one network and sensor share a row, with the number of weights.
    """
    groups: dict[tuple[str, str], list[tuple[str, ...]]] = defaultdict(list)
    for encoder in _encoders():
        network, separator, _ = encoder.name.partition("_Weights.")
        groups[f"{network}{separator}*" if separator else encoder.name, encoder.sensor].append(_row(encoder))
    rows = [members[0] if len(members) == 1 else _merge_rows(name, members) for (name, _), members in groups.items()]
    return rows + [_unlisted_row(name) for name in UNSUPPORTED]


def _merge_rows(name: str, rows: list[tuple[str, ...]]) -> tuple[str, ...]:
    columns = ["; ".join(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    return f"`{name}` ({len(rows)})", *columns[1:]


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
