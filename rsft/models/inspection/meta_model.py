"""Build the classifier of a bundle without weights, to get shapes even if the backbone's weights are not installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rsft.backbones.input_layer import first_layer_path
from rsft.backbones.loading import Backbone
from rsft.backbones.registry import find_card
from rsft.models.factory import build_classifier
from rsft.peft import Site
from rsft.peft.modules.target_layers import transformer_blocks

if TYPE_CHECKING:
    from rsft.models.bundle.bundle import Bundle


@dataclass(frozen=True)
class MetaModel:
    """The structure of a classifier on the meta device.

    Attributes:
        sites: sites of the modulator, in the order of gamma; empty without a modulator.
        shapes: the shape of every learned tensor, by name.
        depth: number of blocks.
        frozen_parameters: number of parameters that are not learned.
    """

    sites: tuple[Site, ...]
    shapes: dict[str, tuple[int, ...]]
    depth: int
    frozen_parameters: int


def build_meta_model(bundle: Bundle) -> MetaModel:
    """Build the classifier of a bundle's recipe on the meta device.

    Args:
        bundle: an open bundle.

    Returns:
        Its sites, shapes and depth.

    Raises:
        RequestError: this version of rsft does not know the backbone, or the backbone lacks a site.
    """
    recipe = bundle.recipe
    card = find_card(recipe.backbone.name, recipe.backbone.blocks)
    with torch.device("meta"):
        encoder = Backbone(card.name, "", card.build(recipe.data.size), card.mean, card.std, card.bands, card.unit)
        classifier = build_classifier(
            encoder, len(bundle.classes), recipe.peft, recipe.meta, recipe.head, recipe.backbone.pool
        )
    modulator = classifier.adapted.modulator
    shapes = {name: tuple(tensor.shape) for name, tensor in classifier.learned_state().items()}
    first_layer, planes = f"{first_layer_path(encoder.vit)}.weight", len(bundle.contract.planes)
    frozen = sum(parameter.numel() for parameter in classifier.parameters() if not parameter.requires_grad)
    if first_layer in shapes:  # a trained input layer has one channel for each plane of the chips
        shapes[first_layer] = (shapes[first_layer][0], planes, *shapes[first_layer][2:])
    elif first_layer in (parameters := dict(encoder.vit.named_parameters())):
        filters = parameters[first_layer]
        frozen += filters[:, 0].numel() * (planes - filters.shape[1])
    sites = modulator.sites if modulator is not None else ()
    return MetaModel(sites, shapes, len(transformer_blocks(encoder.vit)), frozen)
