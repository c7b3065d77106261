"""Describe the frozen encoder of a bundle from its published card."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from rsft.backbones.card import Remote
from rsft.backbones.catalog.listing import find_encoder
from rsft.errors import RequestError
from rsft.recipe.schema import BackboneSection

_HUB = "huggingface.co"
_FAMILIES = {
    "swin": "Swin Transformer",
    "convnext": "ConvNeXt",
    "resnet": "ResNet",
    "vit|eva02|cait|scalemae": "Vision Transformer",
}
"""Name of the architecture in the literature, by a pattern of the encoder's name; the first match counts."""


@dataclass(frozen=True)
class EncoderOrigin:
    """Where the weights of an encoder come from.

    Attributes:
        about: one line with architecture and training data; empty if they are unknown.
        url: address of the published weights file; None if it has none, or if rsft contains the weights.
        repository: repository on the Hugging Face Hub, such as "timm/vit_tiny_patch16_224"; None if there is none.
    """

    about: str = ""
    url: str | None = None
    repository: str | None = None


def find_encoder_origin(section: BackboneSection) -> EncoderOrigin:
    """Return the origin of an encoder. Nothing is known of weights from a file that the recipe names.

    Args:
        section: the section `backbone` of the recipe.
    """
    if section.weights is not None:
        return EncoderOrigin()
    try:
        encoder = find_encoder(section.name)
    except RequestError:  # this version does not know the encoder
        return EncoderOrigin()
    url = encoder.weights.url if isinstance(encoder.weights, Remote) else None
    return EncoderOrigin(encoder.about, url, _hub_repository(url))


def architecture_family(encoder: str) -> str:
    """Return the name that the literature gives to the architecture of an encoder, or the name of the encoder itself.

    Args:
        encoder: name of the encoder in a recipe.

    Example:
        >>> architecture_family("vit_tiny_patch8_64.simship")
        'Vision Transformer'
    """
    matches = (family for pattern, family in _FAMILIES.items() if re.search(pattern, encoder.lower()))
    return next(matches, encoder)


def _hub_repository(url: str | None) -> str | None:
    """Return OWNER/NAME of an address of the Hugging Face Hub."""
    parts = urlsplit(url or "")
    path = parts.path.strip("/").split("/")
    return "/".join(path[:2]) if parts.hostname == _HUB and path[2:3] == ["resolve"] else None
