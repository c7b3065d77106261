"""The reference of the kernels against its equation."""

import pytest
import torch

from rsft.peft.kernels.packing import PackedDeltas, SeededDropout
from rsft.peft.kernels.plain import plain_low_rank_linear


def tensor(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


X, WEIGHT, BIAS = tensor(5, 4, seed=0), tensor(6, 4, seed=1), tensor(6, seed=2)
A, B, M = tensor(3, 4, seed=3), tensor(3, 6, seed=4), tensor(3, 1, seed=5)
SHIFT = tensor(3, 1, seed=6)


def leaves():
    return [x.clone().requires_grad_() for x in (A, B, M, SHIFT)]


def test_the_equation():
    y = plain_low_rank_linear(X, WEIGHT, BIAS, PackedDeltas(A, B, M, SHIFT))
    expected = X @ WEIGHT.t() + BIAS + ((X @ A.t() + SHIFT.t()) * M.t()) @ B
    torch.testing.assert_close(y, expected)
    no_deltas = PackedDeltas(A[:0], B[:0], M[:0])
    plain = plain_low_rank_linear(X, WEIGHT, None, no_deltas)
    torch.testing.assert_close(plain, X @ WEIGHT.t())


@pytest.mark.parametrize("split", [0, 2, 5])
def test_rows_before_the_split_train_the_factors_and_others_the_scale(split):
    a, b, m, shift = leaves()
    y = plain_low_rank_linear(
        X, WEIGHT, BIAS, PackedDeltas(a, b, m, shift), split=split
    )
    gradients = torch.autograd.grad(y.square().sum(), (a, b, m, shift))
    a, b, m, shift = leaves()
    whole = plain_low_rank_linear(X, WEIGHT, BIAS, PackedDeltas(a, b, m, shift))
    torch.testing.assert_close(y, whole)
    inner = torch.autograd.grad(
        whole[:split].square().sum(), (a, b, shift), retain_graph=True
    )
    outer = torch.autograd.grad(whole[split:].square().sum(), m)
    expected = (*inner[:2], *outer, inner[2])
    for actual, correct in zip(gradients, expected, strict=True):
        torch.testing.assert_close(actual, correct)


def test_every_group_of_ranks_has_its_own_dropout():
    dropouts = (
        SeededDropout(slice(0, 1), 0.5, 1),
        SeededDropout(slice(1, 3), 0.0, 2),
    )
    y = plain_low_rank_linear(X, WEIGHT, None, PackedDeltas(A, B, M), dropouts)
    first = ((dropouts[0](X) @ A[:1].t()) * M[:1].t()) @ B[:1]
    others = ((X @ A[1:].t()) * M[1:].t()) @ B[1:]
    torch.testing.assert_close(y, X @ WEIGHT.t() + first + others)
