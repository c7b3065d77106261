"""Losses with the class prior of the chips as they are drawn.

A sampler with the exponent q draws a class of n chips with a probability proportional to n^q. A loss that corrects for
the class prior takes this one, so that the sampler and the loss together correct a long tail once.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING

from rsft.recipe.registries import LossConfig, LossFunction
from rsft.training.optim.losses import set_progress

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LossFunctions:
    """The loss of a run, with the class prior of the chips in each use.

    Attributes:
        inner: loss of the inner loop, with the prior of `train.sampler`.
        outer: loss of the outer loop, with the prior of `meta.sampling`.
        validation: loss of the validation split, with the prior of the training split, whatever the samplers are.
    """

    inner: LossFunction
    outer: LossFunction
    validation: LossFunction

    def set_progress(self, progress: float) -> None:
        """Set the progress of losses that change during training.

        Args:
            progress: finished share of training, 0-1.
        """
        for loss in (self.inner, self.outer, self.validation):
            set_progress(loss, progress)


def make_losses(loss: LossConfig, class_counts: Tensor, exponent: float, outer_exponent: float) -> LossFunctions:
    """Make the functions of a loss for both loops and validation.

    Args:
        loss: the loss, with its settings.
        class_counts: training chips of each class (C,).
        exponent: exponent of the sampler of the inner loop.
        outer_exponent: exponent of the sampler of the outer loop.

    Returns:
        The loss functions.
    """
    return LossFunctions(*(make_loss(loss, class_counts, q) for q in (exponent, outer_exponent, 1.0)))


def make_loss(loss: LossConfig, class_counts: Tensor, exponent: float = 1.0) -> LossFunction:
    """Make the function of a loss.

    Args:
        loss: the loss, with its settings.
        class_counts: training chips of each class (C,); a class without chips is treated as a class with one chip.
        exponent: the sampler's q: it draws a class of n chips with a probability proportional to n^q.

    Returns:
        A function of logits (B, C) and labels (B,).
    """
    takes_draws = "drawn_counts" in signature(loss.make).parameters  # a loss of another package may leave them out
    draws = {"drawn_counts": _drawn_counts(class_counts, exponent)} if takes_draws else {}
    return loss.make(class_counts.float().clamp(min=1), **draws)


def _drawn_counts(class_counts: Tensor, exponent: float) -> Tensor:
    """Return the expected number of draws of each class in an epoch (C,)."""
    counts = class_counts.float().clamp(min=1)
    if exponent == 1:
        return counts
    draws = counts**exponent
    draws = draws.where(class_counts >= 1, draws.min())  # a class without chips is never frequent, also with q < 0
    return draws * (counts.sum() / draws.sum())
