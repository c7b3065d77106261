"""Optimizers, learning rates of a step, and losses with the prior of the draws.

A sampler with the exponent q draws a class of n chips with a probability proportional
to n^q. A loss that corrects for the class prior takes this one, so that the sampler and
the loss together correct a long tail once.
"""

import math
from collections import defaultdict
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rsft.models.classifier import Classifier
from rsft.recipe.registries import LossConfig, LossFunction
from rsft.recipe.schema import TrainSection

PAPER_BATCH = 128
"""Batch size to which the learning rate of a recipe refers (paper, Section 4.2)."""


def build_inner_optimizer(
    classifier: Classifier, train: TrainSection
) -> torch.optim.Optimizer:
    """Return SGD or AdamW on theta; the groups have their base learning rates."""
    groups = parameter_groups(classifier, train)
    fused = is_fused(classifier.theta[0].device)
    if train.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=fused)
    return torch.optim.SGD(groups, momentum=train.momentum, fused=fused)


def is_fused(device: torch.device) -> bool | None:
    """Return whether one operator updates all parameters on a device: on a GPU.

    None is torch's default, which gives the same numbers as before on a CPU.
    """
    return True if device.type == "cuda" else None


def parameter_groups(
    classifier: Classifier, train: TrainSection
) -> list[dict[str, Any]]:
    """Split theta by weight decay.

    Without `train.decay_all`, vectors and scalars (biases, norms, shifts and scales)
    and the prompts of VPT have no weight decay.

    Returns:
        Parameter groups for a torch optimizer, with their base learning rates: with
            weight decay, then without; with
        `train.head_lr` the same of the head. Empty groups are left out.
    """
    groups = defaultdict(list)
    names = {id(parameter): name for name, parameter in classifier.named_parameters()}
    for parameter in classifier.theta:
        name = names[id(parameter)]
        is_head = train.head_lr is not None and name.startswith("head.")
        has_no_decay = not train.decay_all and (
            parameter.ndim < 2 or name.endswith("prompts")
        )
        groups[is_head, has_no_decay].append(parameter)
    if train.head_lr is None:
        head_factor = 1.0
    else:
        head_factor = train.head_lr / train.lr
    return [
        {
            "params": groups[is_head, has_no_decay],
            "lr": base_lr(train) * (head_factor if is_head else 1.0),
            "weight_decay": 0.0 if has_no_decay else train.weight_decay,
        }
        for is_head, has_no_decay in sorted(groups)
    ]


def base_lr(train: TrainSection) -> float:
    """Return the learning rate, scaled by the root of the chips in a step."""
    return train.lr * math.sqrt(
        train.batch_size * train.accumulate_grad_batches / PAPER_BATCH
    )


def lr_factor(train: TrainSection, step: int, steps: int) -> float:
    """Return the factor of the base learning rate at an optimizer step.

    The factor rises linearly in the warm-up, from above 0. Then it stays at 1, or falls
    to 0 as half a cosine (Loshchilov and Hutter 2017, equation 5, without restarts).

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
    return half_cosine((step - warmup) / max(1, steps - warmup))


def half_cosine(progress: float) -> float:
    """Return the factor that falls from 1 to 0 as half a cosine (progress 0-1)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


class LossFunctions(NamedTuple):
    """The loss of a run, with the class prior of the chips in each use.

    Attributes:
        inner: loss of the inner loop, with the prior of `train.sampler`.
        outer: loss of the outer loop, with the prior of `meta.sampling`.
        validation: loss of the validation split, with the prior of the training split,
            whatever the samplers are.
    """

    inner: LossFunction
    outer: LossFunction
    validation: LossFunction


def make_losses(
    loss: LossConfig, class_counts: Tensor, exponent: float, outer_exponent: float
) -> LossFunctions:
    """Make the functions of a loss for both loops, and for validation.

    Args:
        loss: a loss with its settings.
        class_counts: number of training chips of every class (C,).
        exponent: exponent of the class counts in the sampler of the inner loop; 1 draws
            every chip alike.
        outer_exponent: the same of the outer loop.
    """
    return LossFunctions(
        *(make_loss(loss, class_counts, q) for q in (exponent, outer_exponent, 1.0))
    )


def make_loss(
    loss: LossConfig, class_counts: Tensor, exponent: float = 1.0
) -> LossFunction:
    """Make the function of a loss.

    Args:
        loss: the loss, with its settings.
        class_counts: training chips of each class (C,); a class without chips is
            treated as a class with one chip.
        exponent: the sampler's q: it draws a class of n chips with a probability
            proportional to n^q.

    Returns:
        A function of logits (B, C) and labels (B,).
    """
    counts = class_counts.float().clamp(min=1)
    # a loss of another package may leave them out
    if "drawn_counts" not in signature(loss.make).parameters:
        return loss.make(counts)  # type: ignore[call-arg]
    if exponent == 1:
        return loss.make(counts, counts)
    draws = counts**exponent  # expected draws of each class in an epoch
    # a class without chips is never frequent, also with q < 0
    draws = draws.where(class_counts >= 1, draws.min())
    return loss.make(counts, draws * (counts.sum() / draws.sum()))
