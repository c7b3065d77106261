"""How the weights move: groups of parameters, and the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from rsft.models.classifier import Classifier
from rsft.recipe.schema import MetaSection, TrainSection

PAPER_BATCH = 128
"""Chips in a step at which a recipe's learning rate counts (paper, Section 4.2)."""


def inner_optimiser(classifier: Classifier, train: TrainSection) -> torch.optim.Optimizer:
    """SGD on theta, at the full rate."""
    groups = [group for group in parameter_groups(classifier, train) if group["params"]]
    return torch.optim.SGD(groups, lr=full_rate(train), momentum=train.momentum)


def outer_optimiser(classifier: Classifier, meta: MetaSection) -> torch.optim.Optimizer:
    """Adam on gamma alone, whose weight decay `Modulator.pull` replaces."""
    return torch.optim.Adam(classifier.adapted.gamma, lr=meta.lr)


def parameter_groups(classifier: Classifier, train: TrainSection) -> list[dict[str, Any]]:
    """Theta in two groups: what weight decay acts on, and what it spares, with `train.decay_all` nothing.

    Spared are vectors and scalars, which are biases, norms, shifts and scales, and the prompts of VPT.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, parameter in _named_theta(classifier):
        spare = not train.decay_all and (parameter.ndim < 2 or name.endswith("prompts"))
        (spared if spare else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": train.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]


def full_rate(train: TrainSection) -> float:
    """The recipe's rate, scaled by the square root of the chips in an optimiser step."""
    return train.lr * math.sqrt(train.batch_size * train.accumulate_grad_batches / PAPER_BATCH)


def rate_share(train: TrainSection, step: int, steps: int) -> float:
    """The share of the full rate at optimiser step `step`, from 0, of `steps` in the whole run.

    It rises in equal steps through the warm-up, whose first step moves too, and then stays, or falls to 0 as half a
    cosine (Loshchilov and Hutter 2017, equation 5, without restarts).
    """
    warmup = round(train.warmup_epochs / train.epochs * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if train.schedule == "constant":
        return 1.0
    return _half_cosine((step - warmup) / max(1, steps - warmup))


def outer_share(meta: MetaSection, done: float) -> float:
    """The share of `meta.lr` when `done` of the run is over, 0-1. It knows no warm-up: before the first step gamma's
    gradient is 0 anyway, and where the network is about to be lost it is the first outer steps that save it.
    """
    return 1.0 if meta.decay == "constant" else _half_cosine(done)


def _half_cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


def _named_theta(classifier: Classifier) -> Iterator[tuple[str, nn.Parameter]]:
    """Theta in its own order, each with its name."""
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    return ((names[id(parameter)], parameter) for parameter in classifier.theta)
