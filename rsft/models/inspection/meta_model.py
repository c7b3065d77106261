"""What a bundle's classifier is made of, without its weights: shapes alone, whether or not the backbone is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rsft.backbones.loading import Backbone
from rsft.backbones.registry import find_card
from rsft.models.factory import build_classifier
from rsft.peft import Site

if TYPE_CHECKING:
    from rsft.models.bundle.bundle import Bundle
    from rsft.peft import Adapted

_FIRST = "patch_embed.proj.weight"


@dataclass(frozen=True)
class Blueprint:
    """The classifier that a recipe asks for, on no device.

    Attributes:
        sites: that the modulator scales, in the order of gamma; none without one.
        shapes: of every tensor that is learned, by name.
        depth: blocks of the transformer.
    """

    sites: tuple[Site, ...]
    shapes: dict[str, tuple[int, ...]]
    depth: int


def draw(bundle: Bundle) -> Blueprint:
    """The blueprint of what `bundle` says that it holds.

    Raises:
        RequestError: a backbone, method or site that this rsft does not know.
    """
    recipe = bundle.recipe
    card = find_card(recipe.backbone.name)
    with torch.device("meta"):
        encoder = Backbone(card.name, "", card.build(recipe.data.size), card.mean, card.std, card.bands, card.unit)
        classifier = build_classifier(recipe, len(bundle.classes), encoder)
    adapted: Adapted = classifier.adapted
    sites = adapted.modulator.sites if adapted.modulator is not None else ()
    shapes = {name: tuple(tensor.shape) for name, tensor in classifier.learned_state().items()}
    if _FIRST in shapes:  # trained, and made for the planes of the chips
        shapes[_FIRST] = (shapes[_FIRST][0], len(bundle.contract.planes), *shapes[_FIRST][2:])
    return Blueprint(sites, shapes, len(encoder.vit.blocks))
