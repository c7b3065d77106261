"""A frozen linear layer with low-rank additions by plain autograd.

It is the reference of the kernels, and the path of GPUs.

All tensors that autograd needs are stored. The additions of a layer are packed, so that
those of q, k and v are two products. Only PyTorch's own operators are used, so that
`torch.compile` can fuse them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rsft.peft.kernels.packing import (
    PackedDeltas,
    SeededDropout,
    apply_scale,
    join,
)


def plain_low_rank_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    deltas: PackedDeltas,
    dropouts: Sequence[SeededDropout] = (),
    split: int | None = None,
) -> Tensor:
    """Apply the layer: x W^T + bias + ((x A^T + s) m) B^T.

    Args:
        x: (n, width_in).
        weight: (width_out, width_in), of any dtype.
        bias: (width_out,), of any dtype.
        deltas: the additions, in the dtype of the matrix products.
        dropouts: one for each group of ranks, or none.
        split: rows before it give the gradients of a, b and s, rows from it on the
            gradient of the scale.

    Returns:
        (n, width_out).
    """
    dtype = deltas.a.dtype
    x = x.to(dtype)
    y = F.linear(x, weight.to(dtype), None if bias is None else bias.to(dtype))
    if not len(deltas.a):
        return y
    a, b, scale, shift = deltas
    inputs = [dropout(x) for dropout in dropouts] or [x]
    factors = [a[dropout.ranks] for dropout in dropouts] or [a]
    if split is None:
        return torch.addmm(y, _down(inputs, factors, scale, shift), b)
    fixed_scale = None if scale is None else scale.detach()
    fixed_shift = None if shift is None else shift.detach()
    fixed_factors = [factor.detach() for factor in factors]
    inner = _down([part[:split] for part in inputs], factors, fixed_scale, shift), b
    outer = (
        _down([part[split:] for part in inputs], fixed_factors, scale, fixed_shift),
        b.detach(),
    )
    parts = zip((y[:split], y[split:]), (inner, outer), strict=True)
    return torch.cat([torch.addmm(rows, down, up) for rows, (down, up) in parts])


def _down(
    inputs: Sequence[Tensor],
    factors: Sequence[Tensor],
    scale: Tensor | None,
    shift: Tensor | None,
) -> Tensor:
    """Return (x A^T + s) m, (n, R); each group of ranks has its own input."""
    down = join([F.linear(x, a) for x, a in zip(inputs, factors, strict=True)], dim=1)
    if shift is not None:
        down = down + shift.t()
    return apply_scale(down, None if scale is None else scale.t())
