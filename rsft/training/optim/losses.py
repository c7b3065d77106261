"""Losses for the long tail, by the names of the literature."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from rsft.recipe.schema import Loss as Section

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, C) and labels (B,) -> scalar, the mean over the batch."""


def make_loss(section: Section, class_counts: Tensor) -> Loss:
    """The loss that `section` names, for a training set with `class_counts` (C,) chips a class.

    A class without a chip counts as one of a single chip.
    """
    keys = section.model_dump(include=set(section.keys))
    return LOSSES[section.name](class_counts.float().clamp(min=1), **keys)


def logit_adjustment(counts: Tensor, *, tau: float) -> Loss:
    """CE(logits + tau log prior): Menon et al. 2021, equation 10, https://arxiv.org/abs/2007.07314."""
    shift = tau * (counts / counts.sum()).log()
    return lambda logits, labels: F.cross_entropy(logits + shift.to(logits.device), labels)


def ce(counts: Tensor) -> Loss:
    """Cross entropy."""
    return F.cross_entropy


def focal(counts: Tensor, *, gamma: float) -> Loss:
    """-(1 - p_y)^gamma log p_y, p by softmax: Lin et al. 2017, equation 4, https://arxiv.org/abs/1708.02002."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        surprise = F.cross_entropy(logits, labels, reduction="none")
        doubt = -torch.expm1(-surprise)  # 1 - p_y, never exactly 0: its power has no gradient there
        return (doubt.clamp(min=torch.finfo(doubt.dtype).tiny) ** gamma * surprise).mean()

    return loss


def ldam(counts: Tensor, *, margin: float, margin_scale: float, defer: float | None, beta: float) -> Loss:
    """CE with a margin on the true class that grows as its count falls: Cao et al. 2019, Section 3.2,
    https://arxiv.org/abs/1906.07413.

    The logit of class y is lowered by `margin_scale` * `margin` * (n_min / n_y)^(1/4): C is chosen so that the rarest
    class has `margin`, in cosines. From the share `defer` of training on, classes are weighted by their effective
    number of chips (deferred re-weighting, Algorithm 1).
    """
    margins = margin_scale * margin * (counts.min() / counts) ** 0.25

    def lowered(logits: Tensor, labels: Tensor) -> Tensor:
        return logits - F.one_hot(labels, logits.shape[1]) * margins.to(logits.device)

    def plain(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(lowered(logits, labels), labels)

    if defer is None:
        return plain
    balanced = class_balanced(counts, beta=beta)
    return Deferred(plain, lambda logits, labels: balanced(lowered(logits, labels), labels), defer)


def class_balanced(counts: Tensor, *, beta: float) -> Loss:
    """CE weighted by 1 / E_n, E_n = (1 - beta^n) / (1 - beta) the effective number of chips: Cui et al. 2019, equations
    2 and 10, https://arxiv.org/abs/1901.05555. The weights of all classes have the sum C, as there.
    """
    inverse = (1 - beta) / (1 - beta ** counts.double())
    weights = (inverse * len(counts) / inverse.sum()).float()

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return (weights.to(logits.device)[labels] * F.cross_entropy(logits, labels, reduction="none")).mean()

    return loss


def balanced_softmax(counts: Tensor) -> Loss:
    """-log (n_y e^z_y / sum n_c e^z_c): Ren et al. 2020, equation 3, https://arxiv.org/abs/2007.10740."""
    log_counts = counts.log()
    return lambda logits, labels: F.cross_entropy(logits + log_counts.to(logits.device), labels)


def lade(counts: Tensor, *, weight: float, penalty: float) -> Loss:
    """Balanced softmax, and a regulariser that draws logit c to log p_u(x | c) / p_u(x), where u is the uniform prior:
    Hong et al. 2021, Section 3.3, https://arxiv.org/abs/2012.00321.

    The regulariser of class c is -mean(z_c over the chips of c) + R + penalty R^2, R = log mean(p_u(y) / p_s(y) e^z_c)
    over the batch; classes are weighted by their training prior p_s. A chip is weighted by its own class, as the
    derivation asks, where the authors' code takes class c; a class without a chip in the batch has no first term.
    """
    prior = counts / counts.sum()
    cross_entropy = balanced_softmax(counts)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        own = prior.to(logits.device)
        chosen = F.one_hot(labels, len(own)).to(logits.dtype)  # (B, C)
        mean = (logits * chosen).sum(0) / chosen.sum(0).clamp(min=1)
        importance = -(own * len(own)).log()[labels]
        bound = torch.logsumexp(logits + importance[:, None], dim=0) - math.log(len(labels))
        regulariser = (own * (bound - mean + penalty * bound**2)).sum()
        return cross_entropy(logits, labels) + weight * regulariser

    return loss


class Deferred:
    """`first` until the share `start` of training is done, `second` from then on.

    Attributes:
        progress: the share that is done; see `advance`.
    """

    def __init__(self, first: Loss, second: Loss, start: float) -> None:
        self.first, self.second, self.start = first, second, start
        self.progress = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss that is due."""
        return (self.second if self.progress >= self.start else self.first)(logits, labels)


def advance(loss: Loss, progress: float) -> None:
    """Tell a loss which share of training is done."""
    if isinstance(loss, Deferred):
        loss.progress = progress


LOSSES: dict[str, Callable[..., Loss]] = {
    loss.__name__: loss for loss in (logit_adjustment, ce, focal, ldam, class_balanced, balanced_softmax, lade)
}
"""By name; what a loss takes beside the counts are its keys in a recipe."""
