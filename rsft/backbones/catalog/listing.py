"""The encoders that `rsft backbones ls` shows.

A card contains functions of torch and timm, and the size of an encoder is that of a network of timm. encoders.json
contains the rest of all cards, with the number of parameters. It holds for the versions of timm and TorchGeo that it
names. With other versions, the cards are made again, and only the networks that it lacks are built.

`python -m tools.maintenance.reference_docs` writes the file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rsft.utils.download import weights_dir
from rsft.utils.licenses import license_restrictions

if TYPE_CHECKING:
    from rsft.backbones.card import Card

LISTING = Path(__file__).parent / "encoders.json"
"""The shipped listing."""

_PRETRAINED = Path(__file__).parents[1] / "pretrained"


@dataclass(frozen=True)
class ListedEncoder:
    """What a card says of an encoder, without the functions that build it.

    Attributes:
        name: the name in a recipe.
        about: one line with architecture and training data.
        parameters: number of parameters at the native input size.
        size: side of the native input, in pixels.
        patch: side of a patch or of the region of one feature vector, in pixels.
        bands: names of the input planes, in order.
        unit: unit of `mean` and `std`.
        mean: mean of each input plane in pre-training.
        std: standard deviation of each input plane in pre-training.
        license: license of the weights.
        sensor: source of the images in pre-training.
        file: name of the weights file.
        source: "package" for a file in rsft, "download" for one with an address, else "manual".
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
    file: str
    source: Literal["package", "download", "manual"]

    @property
    def restrictions(self) -> tuple[str, ...]:
        """What the license of the weights does not allow."""
        return license_restrictions(self.license)

    @property
    def path(self) -> Path:
        """The weights file, which need not exist."""
        return (_PRETRAINED if self.source == "package" else weights_dir()) / self.file

    @property
    def state(self) -> str:
        """Where the weights are: "in rsft", "here", "to get" or "by hand"."""
        if self.source == "package":
            return "in rsft"
        return "here" if self.path.is_file() else "to get" if self.source == "download" else "by hand"

    @property
    def searched_text(self) -> str:
        """The text in which `search_listing` finds a word, in lower case."""
        words = (self.name, self.about, self.sensor, self.unit, *self.bands, self.license, *self.restrictions)
        return " ".join(words).lower()


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
    matches = [encoder for encoder in listed_encoders() if word.lower() in encoder.searched_text]
    if matches:
        return matches
    from rsft.backbones.registry import search_cards

    return [list_card(card) for card in search_cards(word)]


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


def list_card(card: Card, parameters: int | None = None) -> ListedEncoder:
    """Return what a card says of its encoder.

    Args:
        card: the card.
        parameters: number of parameters; None counts them in the network, which takes up to a second.
    """
    from rsft.backbones.card import Remote
    from rsft.backbones.check import count_encoder_parameters

    source: Literal["package", "download", "manual"] = "package"
    if isinstance(card.weights, Remote):
        source = "manual" if card.weights.url is None else "download"
    return ListedEncoder(
        name=card.name,
        about=card.about,
        parameters=count_encoder_parameters(card) if parameters is None else parameters,
        size=card.size,
        patch=card.patch,
        bands=card.bands,
        unit=card.unit,
        mean=card.mean,
        std=card.std,
        license=card.license,
        sensor=card.sensor,
        file=card.weights.file if isinstance(card.weights, Remote) else card.weights.name,
        source=source,
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
    return ListedEncoder(**entry | {name: tuple(entry[name]) for name in ("bands", "mean", "std")})
