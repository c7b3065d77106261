"""The gradient of the outer loss with respect to gamma: at fixed theta, or through one unrolled inner step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Loss = Callable[[], Tensor]
Mean = Callable[[Tensor], Tensor]
Parameters = Sequence[nn.Parameter]

_DISTANCE = 0.01  # of the finite difference, over the norm of the direction: the value of DARTS, section 2.3


def hypergradient(
    theta: Parameters,
    gamma: Parameters,
    inner: Loss,
    outer: Loss,
    *,
    order: int,
    rate: float,
    mean: Mean = Tensor.detach,
) -> list[Tensor]:
    """The gradients of `outer` with respect to gamma, one a parameter.

    First order: d outer(theta, gamma) / d gamma. Second order (Liu et al. 2019, DARTS, equations 7 and 8): the same at
    theta' = theta - rate * d inner / d theta, less rate * (d2 inner / d gamma d theta) (d outer / d theta'), where the
    product is a finite difference of gradients. Theta is put back bit for bit.

    Args:
        inner, outer: compute their loss at the parameters as they are.
        rate: of the unrolled step; plain gradient descent, without momentum.
        mean: over the processes, each of which has a share of the chips: the unrolled step and the direction are those
            of all of them. The result is this process's own part.
    """
    if order == 1:
        return _gradients(outer(), gamma)
    with _put_back(theta):
        step = [mean(gradient) for gradient in _gradients(inner(), theta)]
        _move(theta, step, -rate)
        direction, direct = _split(_gradients(outer(), [*theta, *gamma]), len(theta))
    direction = [mean(gradient) for gradient in direction]
    distance = _DISTANCE / torch.sqrt(sum((each.square().sum() for each in direction), torch.tensor(1e-12)))
    ahead, behind = (_gradient_at(theta, gamma, inner, direction, sign * float(distance)) for sign in (1, -1))
    mixed = [(a - b) / (2 * distance) for a, b in zip(ahead, behind, strict=True)]
    return [d - rate * m for d, m in zip(direct, mixed, strict=True)]


def _gradient_at(
    theta: Parameters, gamma: Parameters, loss: Loss, direction: Sequence[Tensor], distance: float
) -> list[Tensor]:
    with _put_back(theta):
        _move(theta, direction, distance)
        return _gradients(loss(), gamma)


def _gradients(loss: Tensor, parameters: Parameters) -> list[Tensor]:
    """Zeros where the loss does not depend on a parameter."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@torch.no_grad()
def _move(parameters: Parameters, direction: Sequence[Tensor], distance: float) -> None:
    for parameter, each in zip(parameters, direction, strict=True):
        parameter.add_(each, alpha=distance)


@contextmanager
def _put_back(parameters: Parameters) -> Iterator[None]:
    kept = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, old in zip(parameters, kept, strict=True):
                parameter.copy_(old)


def _split(gradients: list[Tensor], count: int) -> tuple[list[Tensor], list[Tensor]]:
    return gradients[:count], gradients[count:]
