"""What stands before a frozen linear layer: its output is not kept for the backward pass, but computed again there."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor


class Norm(NamedTuple):
    """A frozen layer normalisation, computed in the number type of its input."""

    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, width) -> the same normalised, and its mean and 1 / standard deviation, both (n, 1)."""
        weight, bias = self._affine(x)
        return torch.native_layer_norm(x, x.shape[-1:], weight, bias, self.eps)

    def backward(self, dy: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
        """The gradient of x, (n, width)."""
        wanted = [True, False, False]
        layer_norm_backward = torch.ops.aten.native_layer_norm_backward
        dx, *_ = layer_norm_backward(dy.to(x.dtype), x, x.shape[-1:], mean, rstd, *self._affine(x), wanted)
        return cast(Tensor, dx)

    def _affine(self, x: Tensor) -> list[Tensor | None]:
        return [None if parameter is None else parameter.to(x.dtype) for parameter in (self.weight, self.bias)]


class Gelu(NamedTuple):
    """GELU, exact ("none") or by its approximation ("tanh")."""

    approximate: str

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """(n, width) -> the same activated, alone."""
        return (torch.nn.functional.gelu(x, approximate=self.approximate),)

    def backward(self, dy: Tensor, x: Tensor) -> Tensor:
        """The gradient of x, (n, width), in the place of that of y."""
        gelu_backward = torch.ops.aten.gelu_backward.grad_input
        return cast(Tensor, gelu_backward(dy, x, approximate=self.approximate, grad_input=dy))


Before = Norm | Gelu
