"""A frozen linear layer with low-rank additions, as one autograd function.

It stores as little as possible.

    y = x W^T + bias + sum over deltas of ((x A^T + s) m) B^T

The additions of a layer share its input, so they are packed into one pair of matrices
of rank R, the sum of their ranks. The scale m is applied to matrices of width R, where
it costs almost nothing. These matrices are stored rank first, (R, n), which makes their
products up to six times faster on a CPU. W and the bias get no gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rsft.peft.kernels.buffer_pool import default_pool
from rsft.peft.kernels.matmul import matmul_linear
from rsft.peft.kernels.packing import (
    LowRankDelta,
    PackedDeltas,
    SeededDropout,
    apply_scale,
    draw_dropouts,
    pack_deltas,
)
from rsft.peft.kernels.plain import plain_low_rank_linear
from rsft.peft.kernels.recompute import LayerNormPrologue, Prologue
from rsft.peft.kernels.switch import use_kernels


class FrozenLinear(NamedTuple):
    """The frozen part of a layer, and how to run it. It gets no gradient."""

    weight: Tensor  # (width_out, width_in), of any dtype
    bias: Tensor | None  # (width_out,)
    dropouts: tuple[SeededDropout, ...]  # one for each group of ranks, or empty
    # rows before it give the gradients of a, b and s, rows from it on the gradient of
    # the scale
    split: int | None
    retain_output: bool  # whether the output is stored for the backward pass
    needs_output: bool  # whether the caller reads the output

    def forward(self, x: Tensor, deltas: PackedDeltas) -> tuple[Tensor, Tensor]:
        """Apply the layer with its additions.

        Args:
            x: (n, width_in).
            deltas: the additions.

        Returns:
            y (n, width_out), and x A^T + s (R, n), which `backward` needs.
        """
        down = self._down(deltas.a, x)
        if deltas.shift is not None:
            down += deltas.shift
        if not self.needs_output:
            return x.new_zeros(len(x), len(self.weight)), down
        bias = None if self.bias is None else self.bias.to(x.dtype)
        buffer = None
        if self.retain_output:
            buffer = default_pool.empty((len(x), len(self.weight)), like=x)
        y = matmul_linear(x, self.weight.to(x.dtype), bias, buffer)
        out = y if buffer is None else buffer
        return (
            torch.addmm(y, apply_scale(down, deltas.scale).t(), deltas.b, out=out),
            down,
        )

    def backward(
        self,
        dy: Tensor,
        x: Callable[[], Tensor],
        down: Tensor,
        deltas: PackedDeltas,
        needs_dx: bool = True,
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor | None, Tensor | None]:
        """Compute the gradients.

        Args:
            dy: gradient of the output, (n, width_out).
            x: returns the input (n, width_in) again; called only if there are
                additions.
            down: x A^T + s from `forward`, (R, n).
            deltas: the additions.
            needs_dx: whether the input needs a gradient.

        Returns:
            The gradients of x (or None), a, b, scale (or None) and s (or None).
        """
        up = deltas.b @ dy.t()
        scaled = apply_scale(up, deltas.scale)
        da = deltas.a
        if len(da):
            da = self._down_a(scaled[:, : self.split], x)
        db = apply_scale(down, deltas.scale)[:, : self.split] @ dy[: self.split]
        dscale = None
        if deltas.scale is not None:
            product = up.to(deltas.scale.dtype) * down
            dscale = product[:, self.split :].sum(1, keepdim=True)
        dshift = None
        if deltas.shift is not None:
            dshift = scaled[:, : self.split].sum(1, keepdim=True)
        dx = None
        if needs_dx:
            dx = self._down_x(dy, scaled, deltas.a)
        return dx, da, db, dscale, dshift

    def _down(self, a: Tensor, x: Tensor) -> Tensor:
        """Return A x^T, with the dropout of each group of ranks."""
        if not self.dropouts:
            return a @ x.t()
        return torch.cat(
            [a[dropout.ranks] @ dropout(x).t() for dropout in self.dropouts]
        )

    def _down_a(self, grad: Tensor, x: Callable[[], Tensor]) -> Tensor:
        """Return the gradient of a from that of A x^T on the rows before `split`."""
        rows = x()
        if not self.dropouts:
            return grad @ rows[: self.split]
        return torch.cat(
            [
                grad[dropout.ranks] @ dropout(rows)[: self.split]
                for dropout in self.dropouts
            ]
        )

    def _down_x(self, dy: Tensor, grad: Tensor, a: Tensor) -> Tensor:
        """Return the gradient of x from those of y and of A x^T."""
        dx = matmul_linear(dy, self.weight.to(dy.dtype).t())
        if not self.dropouts:
            return dx.addmm_(grad.t(), a)
        for dropout in self.dropouts:
            dx += dropout(grad[dropout.ranks].t() @ a[dropout.ranks])
        return dx


class _LowRankLinearFunction(torch.autograd.Function):
    """Autograd function that stores x and x A^T + s.

    The backward pass computes the output of the prologue again.

    x A^T + s is stored without its graph, so second derivatives would be wrong. They
    raise an error.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        layer: FrozenLinear,
        prologue: Prologue | None,
        a: Tensor,
        b: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
    ) -> Tensor:
        deltas = PackedDeltas(a, b, scale, shift)
        z, *statistics = (x,) if prologue is None else prologue.forward(x)
        y, down = layer.forward(z.to(a.dtype), deltas)
        ctx.layer = layer
        ctx.prologue = prologue
        ctx.save_for_backward(x, down, *deltas, *statistics)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, down, a, b, scale, shift, *statistics = ctx.saved_tensors
        prologue: Prologue | None = ctx.prologue

        def z() -> Tensor:
            return (x if prologue is None else prologue.forward(x)[0]).to(a.dtype)

        deltas = PackedDeltas(a, b, scale, shift)
        dx, *packed_grads = ctx.layer.backward(
            grads[0], z, down, deltas, ctx.needs_input_grad[0]
        )
        if dx is not None and prologue is not None:
            dx = prologue.backward(dx, x, *statistics)
        return dx, None, None, *packed_grads


def low_rank_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    deltas: Sequence[LowRankDelta],
    *,
    split: int | None = None,
    prologue: Prologue | None = None,
    needs_output: bool = True,
    kernels: bool | None = None,
) -> Tensor:
    """Apply a frozen linear layer with low-rank additions.

    Computes x W^T + bias + sum over deltas of ((x A^T + s) m) B^T.

    Args:
        x: (B, ..., width_in).
        weight: (width_out, width_in), frozen.
        bias: (width_out,), frozen.
        deltas: the additions.
        split: number of inner items of a batch [inner ; meta]. The gradients of a, b
            and s come from the inner items, those of the scales from the meta items,
            and that of x from all items. None uses all items for all gradients.
        prologue: normalization or activation that is applied to x first. Its output is
            not stored.
        needs_output: whether the caller reads the result. If not, the result is zero,
            and only its backward pass works. Without the kernels it makes no
            difference.
        kernels: use hand-written gradients (True) or plain autograd (False); None
            decides by the device of `x`.

    Returns:
        (B, ..., width_out), in the dtype of autocast if it is on, else of x.

    Raises:
        ValueError: the weight or the bias requires a gradient, which this function does
            not compute.
    """
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        raise ValueError(
            "low_rank_linear takes frozen layers: call requires_grad_(False) on the"
            " layer"
        )
    packed = pack_deltas(deltas, weight, x)
    rows = x.flatten(0, -2)
    split_rows = split
    if split is not None:
        split_rows = split * x.shape[1:-1].numel()
    dropouts = draw_dropouts(deltas)
    if not isinstance(prologue, LayerNormPrologue):
        rows = rows.to(packed.a.dtype)
    if use_kernels(x.device, kernels):
        layer = FrozenLinear(
            weight,
            bias,
            dropouts,
            split_rows,
            retain_output=torch.is_grad_enabled(),
            needs_output=needs_output,
        )
        packed = packed._replace(b=packed.b.contiguous())
        y = cast(Tensor, _LowRankLinearFunction.apply(rows, layer, prologue, *packed))  # type: ignore[no-untyped-call]
    else:
        if prologue is not None:
            rows = prologue.forward(rows)[0]
        y = plain_low_rank_linear(rows, weight, bias, packed, dropouts, split_rows)
    return y.view(*x.shape[:-1], len(weight))
