"""Tables of docs/backbones.md: listed encoders, known and refused ones, and the restrictions of licenses.

The rows of timm and TorchGeo depend on the installed versions, which the first line of
the table names.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import asdict
from functools import cache
from importlib.metadata import version

from rsft.backbones.card import ListedEncoder
from rsft.backbones.catalog import list_card, listing_versions
from rsft.backbones.loading import find_card, names
from rsft.backbones.unusable import unusable_encoders
from rsft.errors import RequestError
from rsft.utils.licenses import RESTRICTIONS, describe_license

UNSUPPORTED = (
    "hiera_base_224.mae_in1k_ft_in1k",
    "samvit_base_patch16.sa1b",
    "mobilenetv3_large_100.ra_in1k",
    "ViTSmall16_Weights.SENTINEL1_GRD_CLOSP",
    "ResNet50_Weights.SENTINEL2_RGB_SECO",
    "Unet_Weights.SENTINEL2_2CLASS_FTW",
    "Aurora_Weights.HRES_T0_PRETRAINED_AURORA",
    "EarthLoc_Weights.SENTINEL2_RESNET50",
)
"""Encoders for each reason not to load. The table states the reasons."""


def installed_versions() -> str:
    """Return the sentence with the versions that determine the rows."""
    return f"Rows of timm {version('timm')} and TorchGeo {version('torchgeo')}."


@cache
def encoder_rows() -> list[tuple[str, ...]]:
    """Return encoders, sensor, parameters, input, license and restrictions.

    Encoders of one family, sensor and license share a row. TorchGeo's weights of one
    network are named once, with their number.
    """
    groups: dict[tuple[str, str, str], list[ListedEncoder]] = defaultdict(list)
    for encoder in _encoders():
        if "_Weights." in encoder.name:
            family = "TorchGeo"
        else:
            family = encoder.name.partition("_")[0].partition(".")[0]
        groups[family, encoder.sensor, encoder.license].append(encoder)
    return [_merge_rows(members) for members in groups.values()]


def unsupported_rows() -> list[tuple[str, str]]:
    """Return the encoders that rsft does not load, and why.

    Raises:
        ValueError: one of them loads.
    """
    reasons: dict[str, list[str]] = defaultdict(list)
    for name in UNSUPPORTED:
        try:
            list_card(find_card(name))
        except RequestError as error:
            reasons[error.message.split(": ", 1)[-1]].append(f"`{name}`")
        else:
            raise ValueError(f"{name} loads: remove it from UNSUPPORTED")
    return [(", ".join(names), reason) for reason, names in reasons.items()]


def unusable_rows() -> list[tuple[str, ...]]:
    """Return the encoders that rsft knows by name and does not load: sensor, license, reason and what to use."""
    return [
        (
            f"[{x.name}]({x.source})",
            x.sensor,
            describe_license(x.license, x.restrictions),
            x.reason,
            f"`{x.instead}`",
        )
        for x in unusable_encoders()
    ]


def _merge_rows(members: list[ListedEncoder]) -> tuple[str, ...]:
    encoders = sorted(members, key=lambda encoder: encoder.parameters)
    networks = [re.sub(r"(_Weights\.).*", r"\1*", encoder.name) for encoder in encoders]
    counts = Counter(networks) if len(networks) > 1 else {encoders[0].name: 1}
    names = ", ".join(
        f"`{name}`" + (f" ({count})" if count > 1 else "")
        for name, count in counts.items()
    )
    sizes = [f"{encoder.parameters / 1e6:.1f}" for encoder in encoders]
    parameters = " to ".join(dict.fromkeys((sizes[0], sizes[-1])))
    sides = ", ".join(
        f"{side}" for side in sorted({encoder.size for encoder in encoders})
    )
    bands = ", ".join(dict.fromkeys(_bands(encoder) for encoder in encoders))
    restrictions = ", ".join(encoders[0].restrictions) or "none"
    return (
        names,
        encoders[0].sensor,
        f"{parameters} M",
        f"{bands}; {sides} px",
        encoders[0].license,
        restrictions,
    )


def listing() -> str:
    """Return the content of rsft/backbones/encoders.json, with one encoder per line."""
    lines = ",\n".join(f"  {json.dumps(asdict(encoder))}" for encoder in _encoders())
    return (
        f'{{"versions": {json.dumps(listing_versions())}, "encoders": [\n{lines}\n]}}\n'
    )


def restriction_rows() -> list[tuple[str, ...]]:
    """Return name and meaning of every restriction."""
    return [(f"`{name}`", meaning) for name, meaning in RESTRICTIONS.items()]


@cache
def _encoders() -> list[ListedEncoder]:
    """Return all listed encoders; the parameters of each network are counted."""
    return [list_card(find_card(name)) for name in names()]


def _bands(encoder: ListedEncoder) -> str:
    if len(encoder.bands) < 4:
        return " ".join(encoder.bands)
    return f"{len(encoder.bands)} bands"
