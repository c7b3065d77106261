"""The loss of a step, composed once and handed to the loops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rsft.data.loading.batches import Batch
from rsft.recipe.registries import LossFunction
from rsft.types import Indices


def widen(logits: Tensor) -> Tensor:
    """Return logits in float32, or in float64 if the network computes in it."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def blend(inputs: Tensor, partners: Tensor, share: float) -> Tensor:
    """Return the weighted mean of two batches of images (B, P, S, S)."""
    return share * inputs + (1 - share) * partners


@dataclass(frozen=True)
class Mixing:
    """How a batch mixes pairs of its chips.

    Attributes:
        share: share of each chip; the remainder is its partner's.
        order: partner of each chip (B,).
        mix: returns the mixed images of images, those of the partners, and the share.
    """

    share: float
    order: Tensor
    mix: Callable[[Tensor, Tensor, float], Tensor] = blend


class ExtraChips(Protocol):
    """Chips beside the labeled ones of a batch."""

    @property
    def inputs(self) -> Tensor:
        """Network inputs (K, P, S, S)."""

    def loss(self, logits: Tensor) -> Tensor:
        """Return the weighted loss of logits (K, C), a scalar."""


@dataclass(frozen=True)
class Objective:
    """The losses of one step in both loops.

    Attributes:
        inner: a function of logits and labels, of the inner loop.
        outer: the same of the outer loop, whose chips may be drawn otherwise.
        inner_weight: factor of the inner loss of this process: its share of the chips,
            times the number of processes.
        outer_weight: the same of the outer loss.
        outer_batch: batch drawn from the meta subset; None without an outer step.
        outer_chips: indices of the chips of all processes in the outer step (M,).
        trial_batches: batches that a schedule needs beside the outer batch, each with
            the weight of its loss in this process.
        mixing: how the chips of the inner batch are mixed; None mixes none.
        extra: chips whose loss is added to the inner loss; None for none.
    """

    inner: LossFunction
    outer: LossFunction
    inner_weight: float = 1.0
    outer_weight: float = 1.0
    outer_batch: Batch | None = None
    outer_chips: Indices | None = None
    trial_batches: Sequence[tuple[Batch, float]] = ()
    mixing: Mixing | None = None
    extra: ExtraChips | None = None

    def inner_inputs(self, inputs: Tensor) -> Tensor:
        """Return the inputs of the inner loop: mixed, with the extra chips at the end.

        Args:
            inputs: inputs of the labeled chips (B, ...).
        """
        mixing = self.mixing
        if mixing:
            inputs = mixing.mix(inputs, inputs[mixing.order], mixing.share)
        if self.extra is None:
            return inputs
        return torch.cat([inputs, self.extra.inputs])

    def inner_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the inner loss of this process, a scalar.

        Args:
            logits: of all `inner_inputs` (B + K, C).
            labels: of the labeled chips (B,).
        """
        labeled = widen(logits[: len(labels)])
        loss = self.inner(labeled, labels)
        mixing = self.mixing
        if mixing:
            loss_of_partners = self.inner(labeled, labels[mixing.order])
            loss = mixing.share * loss + (1 - mixing.share) * loss_of_partners
        loss = loss * self.inner_weight
        if self.extra is None:
            return loss
        return loss + self.extra.loss(logits[len(labels) :])

    def outer_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the outer loss of this process, of logits (B, C) and labels (B,)."""
        return self.outer(widen(logits), labels) * self.outer_weight
