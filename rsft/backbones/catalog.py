"""The encoders that `rsft backbones ls` shows.

A card contains functions of torch and timm, and the size of an encoder is that of a network of timm. encoders.json
contains the rest of all cards, with the number of parameters. It holds for the versions of timm and TorchGeo that it
names. With other versions, the cards are made again, and only the networks that it lacks are built.

`python -m tools.maintenance.reference_docs` writes the file.
"""

import json
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rsft.backbones.card import Card, Remote
from rsft.backbones.weights import PublishedEncoder, weights_path
from rsft.utils.licenses import license_restrictions

LISTING = Path(__file__).parent / "encoders.json"
"""The shipped listing."""


@dataclass(frozen=True)
class ListedEncoder:
    """What a card says of an encoder, without the functions that build it: the fields of `Card`, and those below.

    Attributes:
        parameters: number of parameters at the native input size.
        file: name of the weights file in rsft; None if the weights are published elsewhere.
        remote: the published weights file; None if rsft contains the weights.
    """

    name: str
    about: str
    parameters: int
    size: int
    patch: int
    bands: tuple[str, ...]
    unit: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    license: str
    sensor: str
    file: str | None
    remote: Remote | None

    @property
    def restrictions(self) -> tuple[str, ...]:
        """What the license of the weights does not allow."""
        return license_restrictions(self.license)

    @property
    def weights(self) -> Path | Remote:
        """A file in this package, or a published one."""
        return self.remote or LISTING.parent / "pretrained" / str(self.file)

    @property
    def path(self) -> Path:
        """The weights file, which need not exist."""
        return weights_path(self)

    @property
    def state(self) -> str:
        """Where the weights are: "in rsft", "here", "to get" or "by hand"."""
        if self.remote is None:
            return "in rsft"
        return "here" if self.path.is_file() else "to get" if self.remote.url else "by hand"


def search_listing(word: str) -> list[ListedEncoder]:
    """Return the listed encoders that contain a word.

    Args:
        word: text in the name, description, sensor, unit, bands, license or restrictions, in any case. If no listed
            encoder contains it, the name of another encoder.

    Returns:
        At least one encoder.

    Raises:
        RequestError: no encoder contains the word, or it is the name of an encoder that cannot be fine-tuned.
    """
    matches = []
    for encoder in listed_encoders():
        words = (encoder.name, encoder.about, encoder.sensor, encoder.unit, encoder.license)
        if word.lower() in " ".join([*words, *encoder.bands, *encoder.restrictions]).lower():
            matches.append(encoder)
    if matches:
        return matches
    from rsft.backbones.registry import find_unlisted_card

    return [list_card(find_unlisted_card(word))]


def find_encoder(name: str) -> PublishedEncoder:
    """Return name, description and weights of an encoder; only an encoder that is not listed needs its card.

    Args:
        name: the name in a recipe.

    Returns:
        The listed encoder, or a card.

    Raises:
        RequestError: the encoder is unknown, or has no tokens that could be fine-tuned.
    """
    listed = next((encoder for encoder in listed_encoders() if encoder.name == name), None)
    if listed is not None:
        return listed
    from rsft.backbones.registry import find_card

    return find_card(name)


@cache
def listed_encoders() -> tuple[ListedEncoder, ...]:
    """Return all listed encoders, in the order of `rsft.backbones.names`."""
    document = json.loads(LISTING.read_text("utf-8"))
    shipped = tuple(_from_json(entry) for entry in document["encoders"])
    if document["versions"] == listing_versions():
        return shipped
    from rsft.backbones.registry import cards

    counts = {(encoder.name, encoder.size): encoder.parameters for encoder in shipped}
    return tuple(list_card(card, counts.get((card.name, card.size))) for card in cards().values())


def is_listed(name: str) -> bool:
    """Return whether the shipped list contains an encoder and holds for the installed versions.

    Args:
        name: the name in a recipe.
    """
    document = json.loads(LISTING.read_text("utf-8"))
    return document["versions"] == listing_versions() and any(entry["name"] == name for entry in document["encoders"])


def list_card(card: Card, parameters: int | None = None) -> ListedEncoder:
    """Return what a card says of its encoder.

    Args:
        card: the card.
        parameters: number of parameters; None counts them in the network, which takes up to a second.
    """
    from rsft.backbones.loading import count_encoder_parameters

    names = {field.name for field in fields(Card)} & {field.name for field in fields(ListedEncoder)}
    return ListedEncoder(
        **{name: getattr(card, name) for name in names},
        parameters=count_encoder_parameters(card) if parameters is None else parameters,
        file=None if isinstance(card.weights, Remote) else card.weights.name,
        remote=card.weights if isinstance(card.weights, Remote) else None,
    )


def listing_versions() -> dict[str, str]:
    """Return the versions of timm and TorchGeo, on which the cards depend."""
    return {package: version(package) for package in ("timm", "torchgeo")}


def listing_text(encoders: list[ListedEncoder]) -> str:
    """Return the content of encoders.json, with one encoder per line.

    Args:
        encoders: the encoders, in order.
    """
    lines = ",\n".join(f"  {json.dumps(asdict(encoder))}" for encoder in encoders)
    return f'{{"versions": {json.dumps(listing_versions())}, "encoders": [\n{lines}\n]}}\n'


def _from_json(entry: dict[str, Any]) -> ListedEncoder:
    tuples = {name: tuple(entry[name]) for name in ("bands", "mean", "std")}
    return ListedEncoder(**entry | tuples | {"remote": entry["remote"] and Remote(**entry["remote"])})
