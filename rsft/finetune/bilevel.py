"""The two loops of MetaPEFT (paper, section 3.3): SGD on theta, Adam on gamma."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.func import functional_call

from rsft.classifier import Classifier
from rsft.errors import RsftError
from rsft.finetune.hypergradient import hypergradient
from rsft.finetune.losses import Loss
from rsft.recipe.schema import Meta

Batch = tuple[Tensor, Tensor]  # images (B, P, S, S) and labels (B,)
Backward = Callable[[Tensor], None]


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
    ) -> None:
        self.classifier, self.loss, self.inner, self.outer, self.meta = classifier, loss, inner, outer, meta
        self.clip_norm, self.accumulate, self.backward = clip_norm, accumulate, backward
        self.theta, self.gamma = classifier.theta, classifier.adapted.gamma
        self.calls = 0

    def step(self, batch: Batch, outer: Batch | None = None) -> tuple[Tensor, Tensor | None]:
        """An inner step on `batch`, and an outer one where a batch for it is given; the losses of both.

        "alternating" takes one after the other; "joint" takes both gradients at the same weights, in one pass.

        Raises:
            RsftError: a loss that is not finite; nothing was moved by it.
        """
        if outer is not None and self._meta.schedule == "joint":
            return self._joint_step(batch, outer)
        loss = self._inner_step(batch)
        return loss, None if outer is None else self._outer_step(batch, outer)

    def _inner_step(self, batch: Batch) -> Tensor:
        with only(self.theta, self.gamma):
            loss = self._finite("inner", self._loss(batch))
            self._begin()
            self.backward(loss / self.accumulate)
            self._move_theta()
        return loss.detach()

    def _outer_step(self, batch: Batch, outer: Batch) -> Tensor:
        rate = float(self.inner.param_groups[0]["lr"])
        second = self._meta.order == 2
        with only(self.gamma, [] if second else self.theta):
            gradients, loss = hypergradient(
                self.theta,
                self.gamma,
                lambda: self._loss(batch),
                lambda: self._finite("outer", self._loss(outer)),
                order=self._meta.order,
                rate=rate,
            )
        for parameter, gradient in zip(self.gamma, gradients, strict=True):
            parameter.grad = gradient
        self._move_gamma()
        return loss

    def _joint_step(self, batch: Batch, outer: Batch) -> tuple[Tensor, Tensor]:
        """One pass over the rows of both; theta's gradient is that of the inner rows, gamma's of the outer ones."""
        (inputs, labels), (outer_inputs, outer_labels) = batch, outer
        head, rows = self.classifier.head, len(labels)
        with self.classifier.adapted.joint(rows):
            features = self.classifier.features(torch.cat([inputs, outer_inputs]))
        fixed = {name: parameter.detach() for name, parameter in head.named_parameters()}
        loss = self._finite("inner", self.loss(head(features[:rows]).float(), labels))
        outer_logits = functional_call(head, fixed, (features[rows:],))
        outer_loss = self._finite("outer", self.loss(outer_logits.float(), outer_labels))
        self._begin()
        _forget(self.gamma)
        self.backward(loss / self.accumulate + outer_loss)
        self._move_theta()
        self._move_gamma()
        return loss.detach(), outer_loss.detach()

    def _loss(self, batch: Batch) -> Tensor:
        return self.loss(self.classifier(batch[0]).float(), batch[1])

    def _begin(self) -> None:
        if self.calls % self.accumulate == 0:
            _forget(self.theta)
        self.calls += 1

    def _move_theta(self) -> None:
        if self.calls % self.accumulate:
            return
        _average(self.theta)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.theta, self.clip_norm)
        self.inner.step()

    def _move_gamma(self) -> None:
        assert self.outer is not None and self.classifier.adapted.modulator is not None
        _average(self.gamma)
        self.classifier.adapted.modulator.pull(self._meta.weight_decay)
        self.outer.step()

    def _finite(self, loop: str, loss: Tensor) -> Tensor:
        if not torch.isfinite(loss):
            mend = "lower train.lr, meta.lr or peft.scale, or set train.clip_norm"
            raise RsftError(f"the loss of the {loop} loop is {loss.item()}", fix=mend)
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


def _forget(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _average(parameters: Sequence[nn.Parameter]) -> None:
    """Over the processes of a distributed run; alone, nothing."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    for parameter in parameters:
        if parameter.grad is not None:
            distributed.all_reduce(parameter.grad)
            parameter.grad /= distributed.get_world_size()
