"""The gradient of the outer loss with respect to gamma: at fixed theta, or through one unrolled inner step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

LossClosure = Callable[[], Tensor]
"""Computes a loss at the current parameters."""

Parameters = Sequence[nn.Parameter]
"""Theta or gamma."""

_RELATIVE_EPSILON = 0.01
"""Step of the finite difference, divided by the norm of its direction: the value of DARTS, section 2.3."""


def hypergradient(
    theta: Parameters,
    gamma: Parameters,
    inner: LossClosure,
    outer: LossClosure,
    *,
    order: int,
    lr: float,
    reduce_mean: Callable[[Tensor], Tensor] = Tensor.detach,
) -> list[Tensor]:
    """Return the gradients of the outer loss with respect to gamma.

    The first-order gradient is d outer(theta, gamma) / d gamma. The second-order gradient (Liu et al. 2019, DARTS,
    equations 7 and 8) is d outer(theta', gamma) / d gamma - lr * (d2 inner / d gamma d theta) (d outer / d theta') at
    theta' = theta - lr * d inner / d theta; its last product is a finite difference of gradients. Theta is restored bit
    for bit.

    Args:
        theta: parameters of the inner loop.
        gamma: parameters of the outer loop.
        inner: computes the inner loss.
        outer: computes the outer loss.
        order: 1 or 2.
        lr: learning rate of the unrolled step, which is plain gradient descent without momentum.
        reduce_mean: returns the mean of a tensor over the processes, each of which has a share of the chips. It is
            applied to the unrolled step and the direction, not to the result, which is the gradient of this process.

    Returns:
        One gradient per parameter of gamma, with the parameter's shape.
    """
    if order == 1:
        return _gradients(outer(), gamma)
    with _restore_on_exit(theta):
        step = [reduce_mean(gradient) for gradient in _gradients(inner(), theta)]
        _add_scaled(theta, step, -lr)
        gradients = _gradients(outer(), [*theta, *gamma])
    direction, direct = gradients[: len(theta)], gradients[len(theta) :]
    direction = [reduce_mean(gradient) for gradient in direction]
    epsilon = _RELATIVE_EPSILON / torch.sqrt(sum((x.square().sum() for x in direction), torch.tensor(1e-12)))
    ahead, behind = (_gradient_at(theta, gamma, inner, direction, sign * float(epsilon)) for sign in (1, -1))
    mixed = [(a - b) / (2 * epsilon) for a, b in zip(ahead, behind, strict=True)]
    return [d - lr * m for d, m in zip(direct, mixed, strict=True)]


def _gradient_at(
    theta: Parameters, gamma: Parameters, loss: LossClosure, direction: Sequence[Tensor], distance: float
) -> list[Tensor]:
    """Return the gradient of a loss with respect to gamma at theta + distance * direction."""
    with _restore_on_exit(theta):
        _add_scaled(theta, direction, distance)
        return _gradients(loss(), gamma)


def _gradients(loss: Tensor, parameters: Parameters) -> list[Tensor]:
    """Return the gradient of each parameter; zero if the loss does not depend on it."""
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]


@torch.no_grad()
def _add_scaled(parameters: Parameters, direction: Sequence[Tensor], distance: float) -> None:
    for parameter, step in zip(parameters, direction, strict=True):
        parameter.add_(step, alpha=distance)


@contextmanager
def _restore_on_exit(parameters: Parameters) -> Iterator[None]:
    """Restore the parameters at the end of the block."""
    originals = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, original in zip(parameters, originals, strict=True):
                parameter.copy_(original)
