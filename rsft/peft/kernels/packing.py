"""The low-rank additions of a linear layer, packed into one pair of matrices."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class LowRankDelta(NamedTuple):
    """One low-rank addition to a linear layer, ((x A^T + s) m) B^T.

    Attributes:
        rows: the output rows of the layer to which the addition belongs; a slice of
            step 1.
        a: (r, width_in).
        b: (rows, r).
        scale: m, a number or a scalar tensor. The tensor gets a gradient if it requires
            one.
        dropout: rate on the input of `a`; 0 outside of training.
        shift: s (r,), of an addition that reads the output of the layer; None is zero.
    """

    rows: slice
    a: Tensor
    b: Tensor
    scale: Tensor | float
    dropout: float = 0.0
    shift: Tensor | None = None


class PackedDeltas(NamedTuple):
    """The additions of one layer side by side, rank first.

    They have the dtype of its matrix products.
    """

    a: Tensor  # (R, width_in)
    b: Tensor  # (R, width_out), zero outside of an addition's rows
    scale: Tensor | None  # (R, 1); None is 1
    shift: Tensor | None = None  # (R, 1)


class SeededDropout(NamedTuple):
    """Dropout on the input of some ranks.

    The backward pass draws the mask again from its seed.
    """

    ranks: slice
    rate: float
    seed: int

    def __call__(self, x: Tensor) -> Tensor:
        """Set a share `rate` of `x` (n, width) to zero and scale up the others."""
        generator = torch.Generator(x.device).manual_seed(self.seed)
        return x * torch.empty_like(x).bernoulli_(
            1 - self.rate, generator=generator
        ).div_(1 - self.rate)


def pack_deltas(
    deltas: Sequence[LowRankDelta], weight: Tensor, x: Tensor
) -> PackedDeltas:
    """Return the additions side by side, connected to the original tensors.

    Args:
        deltas: the additions.
        weight: the weight of the layer, (width_out, width_in).
        x: input of the layer, for device and dtype.

    Returns:
        Matrices of rank R, 0 without additions.
    """
    dtype = matmul_dtype(x)
    width_out, width_in = weight.shape
    if not deltas:
        empty = x.new_empty
        return PackedDeltas(
            empty(0, width_in, dtype=dtype),
            empty(0, width_out, dtype=dtype),
            empty(0, 1),
        )
    b = [_pad_rows(delta, width_out) for delta in deltas]
    scale = None
    if any(isinstance(delta.scale, Tensor) or delta.scale != 1 for delta in deltas):
        scale = torch.cat([_scale_column(delta) for delta in deltas])
    a = join([delta.a for delta in deltas], dim=0).to(dtype)
    shift = None
    if any(delta.shift is not None for delta in deltas):
        shifts = [
            delta.a.new_zeros(len(delta.a)) if delta.shift is None else delta.shift
            for delta in deltas
        ]
        shift = torch.cat(shifts).unsqueeze(1).to(dtype)
    return PackedDeltas(a, join(b, dim=1).t().to(dtype), scale, shift)


def join(tensors: list[Tensor], dim: int) -> Tensor:
    """Concatenate tensors; one alone is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def _pad_rows(delta: LowRankDelta, width: int) -> Tensor:
    """Return b with zeros in the other rows of the layer, (width, r)."""
    start, stop, _ = delta.rows.indices(width)
    if stop - start == width:
        return delta.b
    return F.pad(delta.b, (0, 0, start, width - stop))


def _scale_column(delta: LowRankDelta) -> Tensor:
    """Return m for every rank, (r, 1)."""
    if isinstance(delta.scale, Tensor):
        return delta.scale.to(delta.a).expand(len(delta.a), 1)
    # a GPU fills it; for the copy of a number it would have to wait
    return delta.a.new_full((len(delta.a), 1), delta.scale)


def matmul_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of matrix products.

    It is that of autocast if autocast is on, else that of the input.

    Args:
        x: input of the layer.

    Returns:
        A dtype.
    """
    kind = x.device.type
    if not torch.amp.is_autocast_available(kind):  # the meta device
        return x.dtype
    if torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype


def draw_dropouts(deltas: Sequence[LowRankDelta]) -> tuple[SeededDropout, ...]:
    """Return one dropout for each group of consecutive additions of one rate.

    The seed comes from torch's generator.

    Args:
        deltas: the additions of one layer.

    Returns:
        Dropouts in the order of the ranks; empty if no addition has dropout.
    """
    if not any(delta.dropout for delta in deltas):
        return ()
    dropouts = []
    start = 0
    for rate, run in groupby(deltas, key=lambda delta: delta.dropout):
        stop = start + sum(len(delta.a) for delta in run)
        dropouts.append(
            SeededDropout(slice(start, stop), rate, int(torch.randint(2**62, ())))
        )
        start = stop
    return tuple(dropouts)


def apply_scale(thin: Tensor, scale: Tensor | None) -> Tensor:
    """Multiply in the dtype of the scale and round once.

    Args:
        thin: (R, n), or (n, R).
        scale: (R, 1), or (1, R); None is 1.

    Returns:
        The product in the shape and dtype of `thin`.
    """
    if scale is None:
        return thin
    return (thin * scale).to(thin.dtype)
