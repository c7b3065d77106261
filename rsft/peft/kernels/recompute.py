"""Operations before a frozen linear layer.

Their outputs are not stored, but computed again in the backward pass.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor


class LayerNormPrologue(NamedTuple):
    """A frozen layer normalization, computed in the dtype of its input."""

    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalize the input.

        Args:
            x: (n, width).

        Returns:
            The normalized input (n, width), its mean and 1 / its standard deviation,
            both (n, 1).
        """
        weight, bias = self._affine(x)
        return torch.native_layer_norm(x, x.shape[-1:], weight, bias, self.eps)

    def backward(self, dy: Tensor, x: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
        """Return the gradient of the input.

        Args:
            dy: gradient of the output, (n, width).
            x: input, (n, width).
            mean: the mean, from `forward`, (n, 1).
            rstd: 1 / standard deviation, from `forward`, (n, 1).

        Returns:
            (n, width).
        """
        output_mask = [True, False, False]
        layer_norm_backward = torch.ops.aten.native_layer_norm_backward
        dx, *_ = layer_norm_backward(
            dy.to(x.dtype), x, x.shape[-1:], mean, rstd, *self._affine(x), output_mask
        )
        return cast(Tensor, dx)

    def _affine(self, x: Tensor) -> list[Tensor | None]:
        return [
            None if parameter is None else parameter.to(x.dtype)
            for parameter in (self.weight, self.bias)
        ]


class GeluPrologue(NamedTuple):
    """GELU, exact ("none") or approximated ("tanh")."""

    approximate: str

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Activate the input.

        Args:
            x: (n, width).

        Returns:
            A tuple of one tensor, (n, width).
        """
        return (torch.nn.functional.gelu(x, approximate=self.approximate),)

    def backward(self, dy: Tensor, x: Tensor) -> Tensor:
        """Return the gradient of the input, computed in place in `dy`.

        Args:
            dy: gradient of the output, (n, width).
            x: input, (n, width).

        Returns:
            (n, width).
        """
        gelu_backward = torch.ops.aten.gelu_backward.grad_input
        return cast(
            Tensor, gelu_backward(dy, x, approximate=self.approximate, grad_input=dy)
        )


class SwiGluPrologue(NamedTuple):
    """Product of the activated first half of the input and its second half.

    An optional norm follows.
    """

    norm: LayerNormPrologue | None

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute silu(gate) * value, and normalize it.

        Args:
            x: gate and value side by side, (n, 2 * width).

        Returns:
            The product (n, width), and the statistics of the norm if there is one.
        """
        gate, value = x.chunk(2, -1)
        product = torch.nn.functional.silu(gate) * value
        if self.norm is None:
            return (product,)
        return self.norm.forward(product)

    def backward(self, dy: Tensor, x: Tensor, *statistics: Tensor) -> Tensor:
        """Return the gradient of the input.

        Args:
            dy: gradient of the output, (n, width).
            x: input, (n, 2 * width).
            *statistics: of the norm, from `forward`.

        Returns:
            (n, 2 * width).
        """
        gate, value = x.chunk(2, -1)
        activated = torch.nn.functional.silu(gate)
        if self.norm is not None:
            mean, rstd = statistics
            dy = self.norm.backward(dy, activated * value, mean, rstd)
        return torch.cat(
            [torch.ops.aten.silu_backward(dy * value, gate), dy * activated], dim=-1
        )


Prologue = LayerNormPrologue | GeluPrologue | SwiGluPrologue
"""Operation on the input of a frozen linear layer."""
