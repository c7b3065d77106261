"""Find encoders by name and load them."""

import difflib
import glob
import json
import re
from pathlib import Path

from rsft.backbones import mae, simship
from rsft.backbones.card import Card, Remote, with_first_blocks
from rsft.backbones.loading import Backbone, load_encoder_weights
from rsft.backbones.weights import find_weights
from rsft.errors import RequestError, WeightsError
from rsft.utils.atomic_files import sha256
from rsft.utils.download import weights_dir

__all__ = ["Backbone", "cards", "find_card", "find_unlisted_card", "load_backbone", "names"]

_RSFT_CARDS: dict[str, Card] = {card.name: card for module in (simship, mae) for card in module.CARDS}

_TIMM_NAMES_IN_HINT = 3


def names() -> list[str]:
    """Return the names of the encoders that `rsft backbones ls` lists; `find_card` also accepts timm's other ViTs.

    Returns:
        The names of rsft's, timm's and TorchGeo's encoders, in this order.
    """
    from rsft.backbones import timm_vits, torchgeo_vits

    return [*_RSFT_CARDS, *timm_vits.NAMES, *timm_vits.HIERARCHICAL_NAMES, *torchgeo_vits.torchgeo_names()]


def cards() -> dict[str, Card]:
    """Return the cards of the encoders in `names`.

    Returns:
        Name -> card.
    """
    return {name: find_card(name) for name in names()}


def find_card(name: str, blocks: int | None = None) -> Card:
    """Return the card of an encoder of rsft, timm or TorchGeo.

    Args:
        name: the name in a recipe. `timm:MODEL` means any ViT of timm with weights from a local file.
        blocks: number of transformer blocks to keep, from the first; None keeps all.

    Returns:
        The card.

    Raises:
        RequestError: the encoder is unknown, or has no tokens that could be fine-tuned.
    """
    card = _RSFT_CARDS.get(name) or _external_card(name)
    if card is None:
        closest = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {closest[0]}?" if closest else "list the encoders with `rsft backbones ls`"
        raise RequestError(f"no backbone is called {name!r}", "backbone.name", hint)
    return card if blocks is None else with_first_blocks(card, blocks)


def _external_card(name: str) -> Card | None:
    """Return the card of an encoder of timm or TorchGeo; None if neither has one of this name."""
    from rsft.backbones import timm_vits, torchgeo_vits

    return timm_vits.timm_card(name) or torchgeo_vits.torchgeo_card(name)


def find_unlisted_card(word: str) -> Card:
    """Return the card of an encoder of timm or TorchGeo that `names` lacks.

    Raises:
        RequestError: no encoder has this name, or it cannot be fine-tuned.
    """
    card = _external_card(word)
    if card is None:
        raise RequestError(f"no encoder matches {word!r}", "", _hint_nearest(word))
    return card


def _hint_nearest(word: str) -> str:
    """Return a hint with the nearest words in the list of encoders, and with models of timm that are not listed."""
    import timm

    listed = names()
    parts = {part.lower(): part for name in listed for part in (*re.split(r"[._:]", name), name)}
    nearest = [parts[part] for part in difflib.get_close_matches(word.lower(), parts, n=3)]
    hints = [f"the nearest are {', '.join(nearest)}"] if nearest else []
    in_timm = timm.list_models(f"*{glob.escape(word)}*", pretrained=True)
    if in_timm:
        more = f" and {len(in_timm) - _TIMM_NAMES_IN_HINT} more" if len(in_timm) > _TIMM_NAMES_IN_HINT else ""
        shown = ", ".join(in_timm[:_TIMM_NAMES_IN_HINT])
        hints.append(f"timm has {shown}{more}: `rsft backbones check NAME` tells whether one can be fine-tuned")
    return "; ".join([*hints, "`rsft backbones ls` lists all encoders"])


def load_backbone(name: str, size: int, weights: Path | None = None, blocks: int | None = None) -> Backbone:
    """Load an encoder, frozen and in evaluation mode.

    Args:
        name: the name in a recipe.
        size: side of the input, in pixels.
        weights: a file of the same architecture. A bare file name is also looked up in the weights folder. None takes
            the default file of the card, from this package or from the weights folder.
        blocks: number of transformer blocks to keep, from the first; None keeps all.

    Returns:
        The encoder for inputs (B, bands, size, size).

    Raises:
        RequestError: the encoder is unknown or has fewer blocks, or the size is not a multiple of its patch side.
        WeightsError: the weights are missing, incomplete or altered.
    """
    card = find_card(name, blocks)
    if weights is None:
        weights = find_weights(card)
        if not isinstance(card.weights, Remote):
            model_card = card.weights.with_suffix(".json")
            if not model_card.is_file():
                raise WeightsError(f"the model card of {card.name} is missing", model_card, "reinstall rsft")
            if sha256(weights) != json.loads(model_card.read_text())["sha256"]:
                raise WeightsError(
                    f"the weights of {card.name} differ from their model card", weights, "reinstall rsft"
                )
    elif weights.name == str(weights) and not weights.exists() and (weights_dir() / weights).exists():
        weights = weights_dir() / weights
    return load_encoder_weights(card, size, weights)
