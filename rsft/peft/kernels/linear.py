"""A frozen linear layer with low-rank additions, as one autograd function that keeps no more than it must.

    y = x W^T + bias + sum over terms of ((x A^T) m) B^T                          (METHOD, section 1)

The terms of a layer share its input, so they are packed into one pair of matrices of rank R, the sum of theirs, and the
scale m acts in rank space, where it costs nothing. All that is R wide is held rank first, (R, n): on a CPU the thin
products run up to six times faster that way round. W and the bias take no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from rsft.peft.kernels.buffer_pool import recycler
from rsft.peft.kernels.matmul import linear
from rsft.peft.kernels.recompute import Before, Norm


class Term(NamedTuple):
    """One low-rank addition to a linear layer, ((x A^T) m) B^T.

    Attributes:
        rows: the rows of the layer's output that it is added to; a slice of step 1.
        a: (r, width_in).
        b: (rows, r).
        m: the scale, a number or a scalar tensor, which takes a gradient if it requires one.
        dropout: on the input of `a`, in training.
    """

    rows: slice
    a: Tensor
    b: Tensor
    m: Tensor | float
    dropout: float = 0.0


class Packed(NamedTuple):
    """The terms of one layer side by side, rank first, in the number type of its matrix products."""

    a: Tensor  # (R, width_in)
    b: Tensor  # (R, width_out), zero outside of a term's rows
    m: Tensor  # (R, 1)


class Dropout(NamedTuple):
    """Dropout before some of the ranks. The mask is drawn again from its seed instead of being kept."""

    ranks: slice
    rate: float
    seed: int

    def __call__(self, x: Tensor) -> Tensor:
        """(n, width), a share `rate` of it zero and the rest scaled up."""
        generator = torch.Generator(x.device).manual_seed(self.seed)
        return x * torch.empty_like(x).bernoulli_(1 - self.rate, generator=generator).div_(1 - self.rate)


class Layer(NamedTuple):
    """What a layer has besides its terms and its input: nothing here takes a gradient."""

    weight: Tensor  # (width_out, width_in), of any number type
    bias: Tensor | None  # (width_out,)
    dropouts: tuple[Dropout, ...]  # one for each run of ranks, or none at all
    split: int | None  # rows before it give the gradients of a and b, those from it on the gradient of m
    kept: bool  # whether what it gives is kept for the backward pass
    read: bool  # whether it is read at all

    def forward(self, x: Tensor, terms: Packed) -> tuple[Tensor, Tensor]:
        """(n, width_in) -> y (n, width_out), and x A^T (R, n), which `backward` needs again."""
        down = self._down(terms.a, x)
        if not self.read:
            return x.new_zeros(len(x), len(self.weight)), down
        y = linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))
        out = recycler.empty(y.shape, like=y) if self.kept else y
        return torch.addmm(y, _scaled(down, terms.m).t(), terms.b, out=out), down

    def backward(
        self, dy: Tensor, x: Callable[[], Tensor], down: Tensor, terms: Packed, into_x: bool = True
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        """The gradients of x (if wanted), a, b and m; `x` is called to have the input again, if there are terms."""
        up = terms.b @ dy.t()
        scaled = _scaled(up, terms.m)
        da = self._down_a(scaled[:, : self.split], x) if len(terms.a) else terms.a
        db = _scaled(down, terms.m)[:, : self.split] @ dy[: self.split]
        dm = (up.to(terms.m.dtype) * down)[:, self.split :].sum(1, keepdim=True)
        return self._down_x(dy, scaled, terms.a) if into_x else None, da, db, dm

    def _down(self, a: Tensor, x: Tensor) -> Tensor:
        """A x^T, each run of ranks with its own dropout."""
        if not self.dropouts:
            return a @ x.t()
        return torch.cat([a[drop.ranks] @ drop(x).t() for drop in self.dropouts])

    def _down_a(self, grad: Tensor, x: Callable[[], Tensor]) -> Tensor:
        """The gradient of a, given that of A x^T on the rows that count."""
        rows = x()
        if not self.dropouts:
            return grad @ rows[: self.split]
        return torch.cat([grad[drop.ranks] @ drop(rows)[: self.split] for drop in self.dropouts])

    def _down_x(self, dy: Tensor, grad: Tensor, a: Tensor) -> Tensor:
        """The gradient of x, given those of y and of A x^T."""
        dx = linear(dy, self.weight.to(dy.dtype).t())
        if not self.dropouts:
            return dx.addmm_(grad.t(), a)
        for drop in self.dropouts:
            dx += drop(grad[drop.ranks].t() @ a[drop.ranks])
        return dx


class _LowRankLinear(torch.autograd.Function):
    """Keeps x and the thin x A^T; what stands between x and the layer is computed again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, m: Tensor, layer: Layer, before: Before | None) -> Tensor:
        z, *statistics = (x,) if before is None else before.forward(x)
        y, down = layer.forward(z.to(a.dtype), Packed(a, b, m))
        ctx.layer, ctx.before = layer, before
        ctx.save_for_backward(x, a, b, m, down, *statistics)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, a, b, m, down, *statistics = ctx.saved_tensors
        before: Before | None = ctx.before

        def z() -> Tensor:
            return (x if before is None else before.forward(x)[0]).to(a.dtype)

        dx, da, db, dm = ctx.layer.backward(grads[0], z, down, Packed(a, b, m), ctx.needs_input_grad[0])
        if dx is not None and before is not None:
            dx = before.backward(dx, x, *statistics)
        return dx, da, db, dm, None, None


def low_rank_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    terms: Sequence[Term],
    *,
    split: int | None = None,
    training: bool = False,
    before: Before | None = None,
    read: bool = True,
) -> Tensor:
    """x W^T + bias + sum over terms of ((x A^T) m) B^T, with x normalised or activated first if wanted.

    Args:
        x: (B, ..., width_in).
        weight: (width_out, width_in), frozen.
        bias: (width_out,), frozen.
        terms: the additions.
        split: of a batch [inner ; meta], the number of inner items. Then the gradients of a and b come from the inner
            ones, those of m from the meta ones, that of x from all. None: all from all.
        training: whether the terms' dropout is on.
        before: what is done to x first; what it gives is not kept.
        read: whether anybody reads what is returned. If not, it is zeros, good for the backward pass alone.

    Returns:
        (B, ..., width_out), of the number type of x, or that of autocast.

    Raises:
        ValueError: the weight or the bias requires a gradient, which it would not get.
    """
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        raise ValueError("a lean layer is frozen: call requires_grad_(False) on it")
    packed = pack(terms, weight, x)
    rows = x.flatten(0, -2)
    split_rows = None if split is None else split * x.shape[1:-1].numel()
    dropouts = draw_dropouts(terms) if training else ()
    layer = Layer(weight, bias, dropouts, split_rows, kept=torch.is_grad_enabled(), read=read)
    if not isinstance(before, Norm):
        rows = rows.to(packed.a.dtype)
    y = cast(Tensor, _LowRankLinear.apply(rows, *packed, layer, before))  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], len(weight))


def pack(terms: Sequence[Term], weight: Tensor, x: Tensor) -> Packed:
    """Terms side by side. Autograd shares out the gradients."""
    dtype = product_type(x)
    width_out, width_in = weight.shape
    if not terms:
        none = x.new_empty
        return Packed(none(0, width_in, dtype=dtype), none(0, width_out, dtype=dtype), none(0, 1))
    spans = [term.rows.indices(width_out) for term in terms]
    b = [F.pad(term.b.t(), (start, width_out - stop)) for term, (start, stop, _) in zip(terms, spans, strict=True)]
    m = [torch.as_tensor(term.m, dtype=term.a.dtype, device=term.a.device).expand(len(term.a), 1) for term in terms]
    return Packed(torch.cat([term.a for term in terms]).to(dtype), torch.cat(b).to(dtype), torch.cat(m))


def product_type(x: Tensor) -> torch.dtype:
    """The number type of the matrix products with x: autocast's where that is on, else its own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def draw_dropouts(terms: Sequence[Term]) -> tuple[Dropout, ...]:
    """One mask for each run of terms of the same rate, seeded from torch's generator; none if no term has any."""
    if not any(term.dropout for term in terms):
        return ()
    dropouts, start = [], 0
    for rate, run in groupby(terms, key=lambda term: term.dropout):
        stop = start + sum(len(term.a) for term in run)
        dropouts.append(Dropout(slice(start, stop), rate, int(torch.randint(2**62, ()))))
        start = stop
    return tuple(dropouts)


def _scaled(thin: Tensor, m: Tensor) -> Tensor:
    """(R, n) times (R, 1), multiplied in the number type of m and rounded once."""
    return (thin * m).to(thin.dtype)
