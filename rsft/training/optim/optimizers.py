"""Build the optimizers of both loops: parameter groups, and learning rates as functions of the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from rsft.models.classifier import Classifier
from rsft.recipe.schema import MetaSection, TrainSection

PAPER_BATCH = 128
"""Batch size to which the learning rate of a recipe refers (paper, Section 4.2)."""


def build_inner_optimizer(classifier: Classifier, train: TrainSection) -> torch.optim.Optimizer:
    """Build the optimizer of the inner loop.

    Args:
        classifier: the classifier, which has the parameters theta.
        train: the section `train` of the recipe.

    Returns:
        SGD or AdamW on theta; the groups have their base learning rates.
    """
    groups = parameter_groups(classifier, train)
    if train.optimizer == "adamw":
        return torch.optim.AdamW(groups)
    return torch.optim.SGD(groups, momentum=train.momentum)


def build_outer_optimizer(classifier: Classifier, meta: MetaSection) -> torch.optim.Optimizer:
    """Build the optimizer of the outer loop.

    Args:
        classifier: a classifier with a modulator.
        meta: the section `meta` of the recipe.

    Returns:
        Adam on gamma, without weight decay: `Modulator.add_decay_toward_init` replaces it.
    """
    return torch.optim.Adam(classifier.adapted.gamma, lr=meta.lr)


def parameter_groups(classifier: Classifier, train: TrainSection) -> list[dict[str, Any]]:
    """Split theta by weight decay.

    Without `train.decay_all`, vectors and scalars (biases, norms, shifts and scales) and the prompts of VPT have no
    weight decay.

    Args:
        classifier: the classifier, which has the parameters theta.
        train: the section `train` of the recipe.

    Returns:
        Parameter groups for a torch optimizer, with their base learning rates: with weight decay, then without; with
        `train.head_lr` the same of the head. Empty groups are left out.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in _named_theta(classifier):
        is_head = train.head_lr is not None and name.startswith("head.")
        has_no_decay = not train.decay_all and (parameter.ndim < 2 or name.endswith("prompts"))
        groups.setdefault((is_head, has_no_decay), []).append(parameter)
    head_factor = 1.0 if train.head_lr is None else train.head_lr / train.lr
    return [
        {
            "params": groups[is_head, has_no_decay],
            "lr": base_lr(train) * (head_factor if is_head else 1.0),
            "weight_decay": 0.0 if has_no_decay else train.weight_decay,
        }
        for is_head, has_no_decay in sorted(groups)
    ]


def base_lr(train: TrainSection) -> float:
    """Return the recipe's learning rate, scaled by the square root of the number of chips in an optimizer step.

    Args:
        train: the section `train` of the recipe.
    """
    return train.lr * math.sqrt(train.batch_size * train.accumulate_grad_batches / PAPER_BATCH)


def lr_factor(train: TrainSection, step: int, steps: int) -> float:
    """Return the factor of the base learning rate at an optimizer step.

    The factor rises linearly in the warm-up, from above 0. Then it stays at 1, or falls to 0 as half a cosine
    (Loshchilov and Hutter 2017, equation 5, without restarts).

    Args:
        train: the section `train` of the recipe.
        step: number of the step from 0.
        steps: optimizer steps in the whole run.
    """
    warmup = round(train.warmup_epochs / train.epochs * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if train.schedule == "constant":
        return 1.0
    return _half_cosine((step - warmup) / max(1, steps - warmup))


def outer_lr_factor(meta: MetaSection, progress: float) -> float:
    """Return the factor of `meta.lr`.

    The outer loop has no warm-up of its learning rate: before the first inner step the gradient of gamma is 0,
    and the first outer steps can keep a run from diverging.

    Args:
        meta: the section `meta` of the recipe.
        progress: finished share of the run, 0-1.
    """
    return 1.0 if meta.decay == "constant" else _half_cosine(progress)


def _half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _named_theta(classifier: Classifier) -> Iterator[tuple[str, nn.Parameter]]:
    """Iterate over the names and parameters of theta, in the order of theta."""
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    return ((names[id(parameter)], parameter) for parameter in classifier.theta)
