"""Estimate what a run needs before it starts, on a network without weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from rsft.backbones.loading import find_card, make_backbone
from rsft.models.classifier import Classifier
from rsft.models.loading import build_classifier
from rsft.recipe.schema import Recipe
from rsft.training.epochs import resolve_epochs
from rsft.training.meta.bilevel import outer_batch_size

_FLOAT_BYTES = 4
_OPTIMIZER_COPIES = 4
"""Value, gradient and two moments of a learned parameter."""
_CHECKPOINTS = 2


@dataclass(frozen=True)
class NetworkCost:
    """What the network of a recipe needs for one chip.

    Attributes:
        parameters: number of all parameters.
        learned: number of learned parameters.
        forward: floating-point operations of a forward pass.
        step: floating-point operations of a training step.
        saved_bytes: memory in float32 that a training step keeps for the backward pass.
    """

    parameters: int
    learned: int
    forward: float
    step: float
    saved_bytes: int


def count_network(recipe: Recipe, classes: int) -> NetworkCost:
    """Count parameters, operations and memory of a recipe on the meta device.

    Args:
        recipe: the recipe.
        classes: number of classes.

    Raises:
        RequestError: the backbone is unknown, or lacks a site of the recipe.
    """
    card = find_card(recipe.backbone.name, recipe.backbone.blocks)
    side = recipe.data.size
    with torch.device("meta"):
        encoder = make_backbone(card, card.build(side), "")
        classifier = build_classifier(encoder, classes, recipe).train()
        chip = torch.empty(1, len(card.bands), side, side)
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            classifier(chip)
        with FlopCounterMode(display=False) as step:
            saved_bytes = _train_and_count(classifier, chip)
    learned = count_values(x for x in classifier.parameters() if x.requires_grad)
    parameters = count_values(classifier.parameters())
    operations = float(forward.get_total_flops()), float(step.get_total_flops())
    return NetworkCost(parameters, learned, *operations, saved_bytes)


def count_values(parameters: Iterable[Tensor]) -> int:
    """Return the number of values of tensors."""
    return sum(parameter.numel() for parameter in parameters)


def _train_and_count(classifier: Classifier, chip: Tensor) -> int:
    """Return the bytes that are kept between a forward and a backward pass.

    The weights do not count.
    """
    weights = {
        parameter.untyped_storage()._cdata for parameter in classifier.parameters()
    }
    # the tensors stay alive, so that no number of a storage is used twice
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        classifier(chip).square().mean().backward()
    return sum(
        tensor.untyped_storage().nbytes()
        for key, tensor in kept.items()
        if key not in weights
    )


def count_operations(
    recipe: Recipe, network: NetworkCost, chips: Mapping[str, int]
) -> float:
    """Return the floating-point operations of a run without its baselines.

    The cache of frozen blocks is not considered, with which a run without augmentation
    needs fewer operations.

    Args:
        recipe: the recipe.
        network: from `count_network`.
        chips: number of chips by split.
    """
    recipe = resolve_epochs(recipe, chips["train"])
    train = recipe.train
    trained = float(train.epochs * chips["train"])
    if recipe.meta:  # an outer step of first order after some inner steps
        inner = recipe.meta.outer_every * train.accumulate_grad_batches
        outer = outer_batch_size(recipe.meta, train)
        trained *= 1 + outer / (inner * train.batch_size)
    validations = train.epochs / recipe.evaluate.every
    classified = validations * chips["val"] + sum(chips.values())
    return train.ensemble_size * (trained * network.step + classified * network.forward)


def count_memory(recipe: Recipe, network: NetworkCost) -> float:
    """Return the bytes of weights, optimizer and one training step of a process."""
    half = recipe.train.precision in ("bf16", "fp16")
    weights = (
        network.parameters * _FLOAT_BYTES + half * network.parameters * _FLOAT_BYTES / 2
    )
    learned = network.learned * _FLOAT_BYTES * _OPTIMIZER_COPIES
    batch = math.ceil(
        recipe.train.batch_size / (recipe.train.devices * recipe.train.nodes)
    )
    return weights + learned + batch * network.saved_bytes * (0.5 if half else 1)


def count_disk(
    recipe: Recipe, network: NetworkCost, chips: Mapping[str, int], planes: int
) -> tuple[float, float]:
    """Return the bytes that a run writes beside the chips and in its folder.

    Args:
        recipe: the recipe.
        network: from `count_network`.
        chips: number of chips by split.
        planes: number of planes of a chip.
    """
    inputs = sum(chips.values()) * recipe.data.size**2 * planes
    learned = network.learned * _FLOAT_BYTES
    return float(inputs), float(
        recipe.train.ensemble_size * learned * (_CHECKPOINTS * _OPTIMIZER_COPIES + 2)
    )
