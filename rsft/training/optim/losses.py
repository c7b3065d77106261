"""Losses for long-tailed data, under their names in the literature.

A loss is a frozen dataclass in `LOSSES`. Its fields are keys of a recipe's section
`loss`, and `make` returns the function of logits and labels. Only `make` imports torch,
so that recipes are checked without it. `rsft.training.optim.optimizers` calls `make`
with the class counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from rsft.recipe.registries import LOSSES, LossFunction
from rsft.utils.settings import Setting

if TYPE_CHECKING:
    from torch import Tensor


Beta = Annotated[
    float,
    Setting(
        "beta of the effective number of chips; 0 weights all classes alike",
        ge=0,
        lt=1,
    ),
]


@LOSSES.register
@dataclass(frozen=True)
class LogitAdjustmentLoss:
    """CE(logits + tau log prior).

    Source: Menon et al. 2021, equation 10, https://arxiv.org/abs/2007.07314.

    The equation's prior is that of the chips whose loss is taken, so of the draws: the
    shift is q tau log n.
    """

    name: ClassVar = "logit_adjustment"
    title: ClassVar = "logit-adjusted cross entropy"
    adjusts_logits: ClassVar = True

    tau: Annotated[
        float,
        Setting(
            "weight of the class prior in logit adjustment; the prior follows the"
            " sampler: q tau log n",
            ge=0,
        ),
    ] = 1.0

    def make(self, class_counts: Tensor, drawn_counts: Tensor) -> LossFunction:
        from torch.nn import functional as F

        shift = self.tau * (drawn_counts / drawn_counts.sum()).log()
        return lambda logits, labels: F.cross_entropy(
            logits + shift.to(logits.device), labels
        )


@LOSSES.register
@dataclass(frozen=True)
class CrossEntropyLoss:
    """Cross entropy."""

    name: ClassVar = "ce"
    title: ClassVar = "cross entropy"

    def make(self, class_counts: Tensor, drawn_counts: Tensor) -> LossFunction:
        from torch.nn import functional as F

        return F.cross_entropy


@LOSSES.register
@dataclass(frozen=True)
class FocalLoss:
    """-(1 - p_y)^gamma log p_y, p by softmax.

    Source: Lin et al. 2017, equation 4, https://arxiv.org/abs/1708.02002.
    """

    name: ClassVar = "focal"
    title: ClassVar = "focal loss"

    gamma: Annotated[
        float,
        Setting(
            "focusing exponent of focal loss; a larger one gives less weight to"
            " well-classified chips",
            ge=0,
        ),
    ] = 2.0

    def make(self, class_counts: Tensor, drawn_counts: Tensor) -> LossFunction:
        import torch
        from torch.nn import functional as F

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            log_loss = F.cross_entropy(logits, labels, reduction="none")
            # 1 - p_y, clamped above 0: its power has no gradient at 0
            complement = -torch.expm1(-log_loss)
            return (
                complement.clamp(min=torch.finfo(complement.dtype).tiny) ** self.gamma
                * log_loss
            ).mean()

        return loss


@LOSSES.register
@dataclass(frozen=True)
class LDAMLoss:
    """Cross entropy with a margin on the true class, which is larger for rarer classes.

    Source: Cao et al. 2019, Section 3.2, https://arxiv.org/abs/1906.07413.

    The logit of class y is lowered by `margin_scale` * `margin` * (n_min / n_y)^(1/4).
    The paper's constant C is chosen so that the rarest class has the margin `margin`,
    as a cosine. After the share `drw_start` of training, classes are weighted by the
    inverse of their effective number of chips (deferred re-weighting, Algorithm 1).

    n is the number of different chips: the margins come from a bound on the error on
    unseen chips, and a chip that is drawn again does not tighten it. The weights are
    those of `ClassBalancedLoss`, which follow the sampler.
    """

    name: ClassVar = "ldam"
    title: ClassVar = "LDAM"

    margin: Annotated[
        float, Setting("LDAM's margin of the rarest class, as a cosine", ge=0)
    ] = 0.5
    margin_scale: Annotated[
        float,
        Setting(
            "LDAM's factor from a cosine to a logit; use that of the cosine head", gt=0
        ),
    ] = 25.0
    drw_start: Annotated[
        float | None,
        Setting(
            "share of training after which LDAM weights classes by effective number"
            " (deferred re-weighting, DRW); null never does",
            lt=1,
            ge=0,
        ),
    ] = None
    beta: Beta = 0.9999

    @property
    def unneeded(self) -> dict[str, str]:
        """Keys without an effect: without re-weighting, beta has none."""
        if self.drw_start is not None:
            return {}
        return {"beta": "nothing: without loss.drw_start LDAM weights no class"}

    def make(self, class_counts: Tensor, drawn_counts: Tensor) -> LossFunction:
        from torch.nn import functional as F

        margins = (
            self.margin_scale
            * self.margin
            * (class_counts.min() / class_counts) ** 0.25
        )

        def subtract_margin(logits: Tensor, labels: Tensor) -> Tensor:
            return logits - F.one_hot(labels, logits.shape[1]) * margins.to(
                logits.device
            )

        def plain(logits: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(subtract_margin(logits, labels), labels)

        if self.drw_start is None:
            return plain
        balanced = ClassBalancedLoss(beta=self.beta).make(class_counts, drawn_counts)
        return DeferredReweighting(
            plain,
            lambda logits, labels: balanced(subtract_margin(logits, labels), labels),
            self.drw_start,
        )


@LOSSES.register
@dataclass(frozen=True)
class ClassBalancedLoss:
    """Cross entropy with classes weighted by their effective number of chips.

    The weight is 1 / E_n with E_n = (1 - beta^n) / (1 - beta).

    The weights of the C classes have the sum C. Source: Cui et al. 2019, equations 2
    and 10, https://arxiv.org/abs/1901.05555.

    E_n counts different chips n, because a chip that is drawn again is no new data
    (Section 3). Each weight is divided by the class's draws per chip. So the share of a
    class in the loss of an epoch is n / E_n with every sampler.
    """

    name: ClassVar = "class_balanced"
    title: ClassVar = "class-balanced cross entropy"

    beta: Beta = 0.9999

    def make(self, class_counts: Tensor, drawn_counts: Tensor) -> LossFunction:
        from torch.nn import functional as F

        inverse = (1 - self.beta) / (1 - self.beta ** class_counts.double())
        inverse = inverse * (class_counts / drawn_counts)
        weights = (inverse * len(class_counts) / inverse.sum()).float()

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            return (
                weights.to(logits.device)[labels]
                * F.cross_entropy(logits, labels, reduction="none")
            ).mean()

        return loss


@LOSSES.register
@dataclass(frozen=True)
class BalancedSoftmaxLoss:
    """-log (n_y e^z_y / sum n_c e^z_c).

    Source: Ren et al. 2020, equation 3, https://arxiv.org/abs/2007.10740.

    n are the draws: with class-balanced draws, the counts of the training split correct
    twice (Section 3.2).
    """

    name: ClassVar = "balanced_softmax"
    title: ClassVar = "balanced softmax"
    adjusts_logits: ClassVar = True

    def make(self, class_counts: Tensor, drawn_counts: Tensor) -> LossFunction:
        from torch.nn import functional as F

        log_counts = drawn_counts.log()
        return lambda logits, labels: F.cross_entropy(
            logits + log_counts.to(logits.device), labels
        )


@LOSSES.register
@dataclass(frozen=True)
class LADELoss:
    """Balanced softmax with a regularizer (LADE).

    The regularizer pulls logit c toward log p_u(x | c) / p_u(x); u is the uniform
    prior.

    Source: Hong et al. 2021, Section 3.3, https://arxiv.org/abs/2012.00321.

    The regularizer of class c is -mean(z_c over the chips of c) + R + penalty R^2,
    where R is the logarithm of the mean of p_u(y) / p_s(y) e^z_c over the batch.
    Classes are weighted by their prior p_s. p_s is the prior of the draws, because p_u
    / p_s turns a mean over the batch into one over p_u. A chip is weighted by its own
    class y, as in the paper's derivation; the authors' code uses class c. The first
    term is 0 for a class without chips in the batch.
    """

    name: ClassVar = "lade"
    title: ClassVar = "LADE"

    weight: Annotated[
        float, Setting("weight of LADE's regularizer relative to cross entropy", ge=0)
    ] = 0.1
    penalty: Annotated[
        float, Setting("weight of the squared term within LADE's regularizer", ge=0)
    ] = 0.1

    def make(self, class_counts: Tensor, drawn_counts: Tensor) -> LossFunction:
        import torch
        from torch.nn import functional as F

        class_prior = drawn_counts / drawn_counts.sum()
        cross_entropy = BalancedSoftmaxLoss().make(class_counts, drawn_counts)

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            prior = class_prior.to(logits.device)
            one_hot = F.one_hot(labels, len(prior)).to(logits.dtype)  # (B, C)
            mean = (logits * one_hot).sum(0) / one_hot.sum(0).clamp(min=1)
            importance = -(prior * len(prior)).log()[labels]
            bound = torch.logsumexp(logits + importance[:, None], dim=0) - math.log(
                len(labels)
            )
            regularizer = (prior * (bound - mean + self.penalty * bound**2)).sum()
            return cross_entropy(logits, labels) + self.weight * regularizer

        return loss


@dataclass(frozen=True)
class DeferredReweighting:
    """A loss that changes during training.

    Attributes:
        first: the loss before the share `start` of training.
        second: the loss from then on.
        start: finished share of training, 0-1.
    """

    first: LossFunction
    second: LossFunction
    start: float

    def at(self, progress: float) -> LossFunction:
        """Return the loss at a finished share of training, 0-1."""
        return self.second if progress >= self.start else self.first

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits (B, C) and labels (B,) at the start."""
        return self.at(0.0)(logits, labels)


def loss_at(loss: LossFunction, progress: float) -> LossFunction:
    """Return a loss at a finished share of training; most losses never change."""
    if isinstance(loss, DeferredReweighting):
        return loss.at(progress)
    return loss
