"""Operations that are computed again in the backward pass, against autograd."""

import pytest
import torch
from torch.nn import functional as F

from rsft.peft.kernels.recompute import (
    GeluPrologue,
    LayerNormPrologue,
    SwiGluPrologue,
)

WIDTH = 6
NORM = LayerNormPrologue(
    torch.linspace(0.5, 2, WIDTH), torch.linspace(-1, 1, WIDTH), 1e-5
)


def norm(x, prologue=NORM):
    weight, bias = (
        None if part is None else part.double()
        for part in (prologue.weight, prologue.bias)
    )
    return F.layer_norm(x, (WIDTH,), weight, bias, prologue.eps)


def swiglu(x):
    gate, value = x.chunk(2, -1)
    return F.silu(gate) * value


BARE = LayerNormPrologue(None, None, 1e-6)
CASES = {
    "norm": (NORM, WIDTH, norm),
    "norm without weights": (BARE, WIDTH, lambda x: norm(x, BARE)),
    "gelu": (GeluPrologue("none"), WIDTH, F.gelu),
    "gelu by tanh": (
        GeluPrologue("tanh"),
        WIDTH,
        lambda x: F.gelu(x, approximate="tanh"),
    ),
    "swiglu": (SwiGluPrologue(None), 2 * WIDTH, swiglu),
    "swiglu and norm": (SwiGluPrologue(NORM), 2 * WIDTH, lambda x: norm(swiglu(x))),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_are_those_of_autograd(name):
    prologue, width, reference = CASES[name]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, width, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    expected = reference(x)
    dy = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(expected, x, dy)
    y, *statistics = prologue.forward(x.detach())
    torch.testing.assert_close(y, expected)
    actual = prologue.backward(dy.clone(), x.detach(), *statistics)
    torch.testing.assert_close(actual, gradient)
