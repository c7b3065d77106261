"""The two loops of MetaPEFT (paper, section 3.3): SGD on theta, Adam on gamma."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.func import functional_call

from rsft.errors import RsftError
from rsft.models.classifier import Classifier
from rsft.recipe.schema import Meta
from rsft.training.distributed.collectives import average_gradients, mean
from rsft.training.meta.hypergradient import hypergradient
from rsft.training.optim.losses import Loss
from rsft.training.precision import Scalers, loss_scalers
from rsft.training.step_timer import Stopwatch

Batch = tuple[Tensor, Tensor]  # images (B, P, S, S) and labels (B,)
Backward = Callable[[Tensor], None]


class NotFinite(RsftError):
    """A loss is NaN or infinite.

    Attributes:
        loop: "inner" or "outer".
        chips: names of those that gave it, as far as known.
    """

    def __init__(self, what: str, loop: str, where: str = "", chips: tuple[str, ...] = ()) -> None:
        super().__init__(what, where, "lower train.lr, meta.lr or peft.scale, or set train.clip_norm")
        self.loop, self.chips = loop, chips

    def at(self, moment: str, chips: tuple[str, ...]) -> NotFinite:
        """The same, at a moment and with the chips."""
        shown, more = ", ".join(chips[:6]), f" and {len(chips) - 6} more; run.json names them all"
        return NotFinite(self.what, self.loop, f"{moment}, chips {shown}{more if len(chips) > 6 else ''}", chips)


class Optimizer(Protocol):
    """What is needed of torch's optimisers and of Lightning's."""

    param_groups: list[dict[str, Any]]

    def step(self) -> Any:
        """Move the parameters."""


class BiLevel:
    """Moves theta, and gamma where a batch for it is given.

    Args:
        inner, outer: the optimisers of theta and of gamma; None is plain PEFT.
        meta: the recipe's section.
        clip_norm: the largest norm of theta's gradient; None does not clip.
        accumulate: calls whose gradients make one inner step.
        backward: of a loss; the Lightning task puts its own here.
        watch: what times the phases "inner" and "outer".
        scalers: of the losses of both loops, so that small gradients survive in float16; off where None. There are two
            because the inner scale must hold while gradients accumulate.

    Attributes:
        calls: of `step` so far; where it is no multiple of `accumulate`, theta's gradients are half a step.
        weights: of this process's inner and outer loss in a run of several: its share of the chips, times their number.
        skipped: steps that were not taken because a scaled gradient overflowed.
    """

    def __init__(
        self,
        classifier: Classifier,
        loss: Loss,
        inner: Optimizer,
        outer: Optimizer | None = None,
        meta: Meta | None = None,
        *,
        clip_norm: float | None = None,
        accumulate: int = 1,
        backward: Backward = Tensor.backward,
        watch: Stopwatch | None = None,
        scalers: Scalers | None = None,
    ) -> None:
        self.classifier, self.loss, self.inner, self.outer, self.meta = classifier, loss, inner, outer, meta
        self.clip_norm, self.accumulate, self.backward = clip_norm, accumulate, backward
        self.theta, self.gamma = classifier.theta, classifier.adapted.gamma
        self.watch = watch or Stopwatch()
        self.inner_scaler, self.outer_scaler = scalers or loss_scalers("32", "cpu")
        self.calls = self.skipped = 0
        self.weights = (1.0, 1.0)
        self._seen: dict[str, Tensor] = {}  # the last loss of each loop, over all processes

    def step(self, batch: Batch, outer: Batch | None = None) -> tuple[Tensor, Tensor | None]:
        """An inner step on `batch`, and an outer one where a batch for it is given; the losses of both.

        Of several processes each gives its own chips; gradients and losses are those of all of them.

        "alternating" takes one after the other; "joint" takes both gradients at the same weights, in one pass.

        Raises:
            RsftError: a loss that is not finite; nothing was moved by it.
        """
        if outer is not None and self._meta.schedule == "joint":
            with self.watch(inner=len(batch[1]), outer=len(outer[1])):
                return self._joint_step(batch, outer)
        with self.watch(inner=1):
            loss = self._inner_step(batch)
        if outer is None:
            return loss, None
        with self.watch(outer=1):
            return loss, self._outer_step(batch, outer)

    def _inner_step(self, batch: Batch) -> Tensor:
        with only(self.theta, self.gamma):
            loss = self._finite("inner", self._loss(batch))
            self._begin()
            self.backward(self.inner_scaler.scale(loss / self.accumulate))
            self._move_theta()
        return self._seen["inner"]

    def _outer_step(self, batch: Batch, outer: Batch) -> Tensor:
        rate = float(self.inner.param_groups[0]["lr"])
        second = self._meta.order == 2
        with only(self.gamma, [] if second else self.theta):
            gradients = hypergradient(
                self.theta,
                self.gamma,
                lambda: self._loss(batch),
                lambda: self.outer_scaler.scale(self._finite("outer", self._loss(outer, self.weights[1]))),
                order=self._meta.order,
                rate=rate,
                mean=mean,
            )
        for parameter, gradient in zip(self.gamma, gradients, strict=True):
            parameter.grad = gradient
        self._move_gamma()
        return self._seen["outer"]

    def _joint_step(self, batch: Batch, outer: Batch) -> tuple[Tensor, Tensor]:
        """One pass over the rows of both; theta's gradient is that of the inner rows, gamma's of the outer ones."""
        (inputs, labels), (outer_inputs, outer_labels) = batch, outer
        head, rows = self.classifier.head, len(labels)
        with self.classifier.adapted.joint(rows):
            features = self.classifier.features(torch.cat([inputs, outer_inputs]))
        fixed = {name: parameter.detach() for name, parameter in head.named_parameters()}
        weight, outer_weight = self.weights
        loss = self._finite("inner", weight * self.loss(head(features[:rows]).float(), labels))
        outer_logits = functional_call(head, fixed, (features[rows:],))
        outer_loss = self._finite("outer", outer_weight * self.loss(outer_logits.float(), outer_labels))
        self._begin()
        _forget(self.gamma)
        self.backward(self.inner_scaler.scale(loss / self.accumulate) + self.outer_scaler.scale(outer_loss))
        self._move_theta()
        self._move_gamma()
        return self._seen["inner"], self._seen["outer"]

    def _loss(self, batch: Batch, weight: float | None = None) -> Tensor:
        loss = self.loss(self.classifier(batch[0]).float(), batch[1])
        return loss * (self.weights[0] if weight is None else weight)

    def _begin(self) -> None:
        if self.calls % self.accumulate == 0:
            _forget(self.theta)
        self.calls += 1

    def _move_theta(self) -> None:
        if self.calls % self.accumulate:
            return
        average_gradients(self.theta)
        self.inner_scaler.unscale_(_torch(self.inner))
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.theta, self.clip_norm)
        self._take(self.inner, self.inner_scaler)

    def _move_gamma(self) -> None:
        assert self.outer is not None and self.classifier.adapted.modulator is not None
        average_gradients(self.gamma)
        self.outer_scaler.unscale_(_torch(self.outer))
        self.classifier.adapted.modulator.pull(self._meta.weight_decay)
        self._take(self.outer, self.outer_scaler)

    def _take(self, optimizer: Optimizer, scaler: GradScaler) -> None:
        before = scaler.get_scale()
        scaler.step(_torch(optimizer))
        scaler.update()
        self.skipped += scaler.get_scale() < before

    def _finite(self, loop: str, loss: Tensor) -> Tensor:
        self._seen[loop] = seen = mean(loss)  # over the processes, so that all of them stop or none
        if not torch.isfinite(seen):
            raise NotFinite(f"the loss of the {loop} loop is {seen.item()}", loop)
        return loss

    @property
    def _meta(self) -> Meta:
        assert self.meta is not None
        return self.meta


@contextmanager
def only(trained: Sequence[nn.Parameter], frozen: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within the block `trained` take gradients and `frozen` do not."""
    for parameter in frozen:
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def _torch(optimizer: Optimizer) -> torch.optim.Optimizer:
    """As torch's scaler wants it called; it uses no more of it than we do."""
    return cast(torch.optim.Optimizer, optimizer)


def _forget(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
