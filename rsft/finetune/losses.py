"""Losses for the long tail, by the names of the literature."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

Loss = Callable[[Tensor, Tensor], Tensor]  # logits (B, C), labels (B,) -> scalar


def make_loss(name: str, class_counts: Tensor, tau: float) -> Loss:
    """The loss `name` for a training set with `class_counts` (C,) chips a class.

    "logit_adjustment" is CE(logits + tau log prior) (Menon et al. 2021, equation 10); "ce" is cross-entropy.
    """
    if name == "ce":
        return F.cross_entropy
    shift = tau * (class_counts / class_counts.sum()).log()
    return lambda logits, labels: F.cross_entropy(logits + shift.to(logits.device), labels)
