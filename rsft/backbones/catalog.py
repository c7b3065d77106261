"""The encoders that `rsft backbones ls` shows.

A card contains functions of torch and timm, and the size of an encoder is that of a
network of timm. encoders.json contains the rest of all cards, with the number of
parameters. It holds for the versions of timm and TorchGeo that it names. With other
versions, the cards are made again, and only the networks that it lacks are built; an
encoder that these versions cannot fine-tune is left out.

`python -m tools.maintenance.reference_docs` writes the file.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter

from rsft.backbones.card import (
    ENCODER_GROUP,
    Card,
    EncoderInfo,
    ListedEncoder,
    PublishedEncoder,
    Remote,
)
from rsft.errors import RequestError
from rsft.utils.registry import entry_points_of

_log = logging.getLogger(__name__)

LISTING = Path(__file__).parent / "encoders.json"
"""The shipped list."""


def search_listing(word: str, *, may_be_empty: bool = False) -> list[ListedEncoder]:
    """Return the listed encoders that contain a word, in any case.

    It may stand in their name, description, sensor, unit, bands or license. If no
    listed encoder contains it, it is the name of another encoder, unless the result may
    be empty.

    Returns:
        At least one encoder, unless `may_be_empty`.

    Raises:
        RequestError: no encoder contains the word, or it is the name of an encoder that
            cannot be fine-tuned.
    """
    matches = []
    for encoder in listed_encoders():
        words = (
            encoder.name,
            encoder.about,
            encoder.sensor,
            encoder.unit,
            encoder.license,
            *encoder.bands,
            *encoder.restrictions,
        )
        if word.lower() in " ".join(words).lower():
            matches.append(encoder)
    if matches or may_be_empty:
        return matches
    from rsft.backbones.loading import find_card

    return [list_card(find_card(word))]


def find_encoder(name: str) -> PublishedEncoder:
    """Return an encoder by its name in a recipe.

    Raises:
        RequestError: the encoder is unknown, or has no tokens that could be fine-tuned.
    """
    for encoder in listed_encoders():
        if encoder.name == name:
            return encoder
    from rsft.backbones.loading import find_card

    return find_card(name)


@cache
def listed_encoders() -> tuple[ListedEncoder, ...]:
    """Return all listed encoders, in the order of `rsft.backbones.names`."""
    document = json.loads(LISTING.read_text("utf-8"))
    reader = TypeAdapter(tuple[ListedEncoder, ...])
    shipped = reader.validate_python(document["encoders"])
    if document["versions"] == listing_versions():
        return shipped
    counts = {(encoder.name, encoder.size): encoder.parameters for encoder in shipped}
    cards = _usable_cards()
    return tuple(list_card(card, counts.get((card.name, card.size))) for card in cards)


def _usable_cards() -> Iterator[Card]:
    """Yield the cards that the installed versions of timm and TorchGeo support."""
    from rsft.backbones.loading import find_card, names

    for name in names():
        try:
            yield find_card(name)
        except RequestError as error:
            _log.info("not listed: %s", error)


def list_card(card: Card, parameters: int | None = None) -> ListedEncoder:
    """Return the entry of a card in the list: the card without its functions.

    Args:
        card: the card.
        parameters: number of parameters; None counts them, which takes up to a second.
    """
    if parameters is None:
        import torch

        with torch.device("meta"):
            network = card.build(card.size)
        parameters = sum(parameter.numel() for parameter in network.parameters())
    return ListedEncoder(
        **{field.name: getattr(card, field.name) for field in fields(EncoderInfo)},
        parameters=parameters,
        file=card.weights.name if isinstance(card.weights, Path) else None,
        remote=card.weights if isinstance(card.weights, Remote) else None,
    )


def listing_versions() -> dict[str, str]:
    """Return the versions and the plug-ins on which the cards depend."""
    versions = {package: version(package) for package in ("timm", "torchgeo")}
    return versions | {"plug-ins": " ".join(entry_points_of(ENCODER_GROUP))}
