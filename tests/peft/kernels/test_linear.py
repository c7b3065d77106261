from functools import partial

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rsft.peft.kernels import LowRankDelta, low_rank_linear
from rsft.peft.kernels.recompute import GeluPrologue, LayerNormPrologue, SwiGluPrologue

WIDTH_IN = 5
WIDTH_OUT = 6


def leaf(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        *shape, dtype=torch.float64, generator=generator
    ).requires_grad_()


def frozen(*shape, seed):
    return leaf(*shape, seed=seed).detach()


X = leaf(4, 3, WIDTH_IN, seed=0)
WEIGHT = frozen(WIDTH_OUT, WIDTH_IN, seed=1)
BIAS = frozen(WIDTH_OUT, seed=2)
NORM = LayerNormPrologue(frozen(WIDTH_IN, seed=3), frozen(WIDTH_IN, seed=4), 1e-6)
A1, B1, A2, B2 = (
    leaf(*shape, seed=5 + i)
    for i, shape in enumerate([(2, WIDTH_IN), (3, 2), (1, WIDTH_IN), (6, 1)])
)
M1 = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
LEAVES = (X, A1, B1, M1, A2, B2)


def deltas(a1=A1, b1=B1, m1=M1, a2=A2, b2=B2, dropout=(0.0, 0.0)):
    """Return two deltas: one over some rows with a learned scale, and one over all rows
    with a fixed scale."""
    return [
        LowRankDelta(slice(2, 5), a1, b1, m1, dropout[0]),
        LowRankDelta(slice(None), a2, b2, 0.5, dropout[1]),
    ]


def plain(x, norm=None, split=None):
    """Compute the layer and its deltas in plain torch; the split detaches untrained
    parameters."""
    z = (
        x
        if norm is None
        else F.layer_norm(x, (WIDTH_IN,), norm.weight, norm.bias, norm.eps)
    )
    y = F.linear(z, WEIGHT, BIAS)
    for delta in deltas():
        a = delta.a
        b = delta.b
        m = torch.as_tensor(delta.scale)
        addition = ((z @ a.T) * m) @ b.T
        if split is not None:
            inner = ((z[:split] @ a.T) * m.detach()) @ b.T
            meta = ((z[split:] @ a.detach().T) * m) @ b.detach().T
            addition = torch.cat([inner, meta])
        first, last, _ = delta.rows.indices(WIDTH_OUT)
        y = y + F.pad(addition, (first, WIDTH_OUT - last))
    return y


def gradients(y):
    return torch.autograd.grad((y * frozen(*y.shape, seed=20)).sum(), LEAVES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "norm",
    [None, NORM, LayerNormPrologue(None, None, 1e-5)],
    ids=["", "norm", "norm without weights"],
)
@pytest.mark.parametrize("bias", [None, BIAS], ids=["", "bias"])
@pytest.mark.parametrize("dropout", [(0.0, 0.0), (0.5, 0.5), (0.3, 0.0)], ids=str)
def test_gradients_match_finite_differences(norm, bias, dropout):
    def layer(x, *parameters):
        torch.manual_seed(0)  # the same masks each time
        return low_rank_linear(
            x,
            WEIGHT,
            bias,
            deltas(*parameters, dropout=dropout),
            prologue=norm,
        )

    assert gradcheck(layer, LEAVES)


@pytest.mark.parametrize("norm", [None, NORM], ids=["", "norm"])
@pytest.mark.parametrize("split", [None, 0, 1, 3, 4])
def test_outputs_and_gradients_match_autograd(norm, split):
    actual = low_rank_linear(X, WEIGHT, BIAS, deltas(), split=split, prologue=norm)
    reference = plain(X, norm, split)
    torch.testing.assert_close(actual, reference)
    torch.testing.assert_close(gradients(actual), gradients(reference))


@pytest.mark.parametrize("split", [None, 0, 1, 4])
@pytest.mark.parametrize("dropout", [(0.0, 0.0), (0.5, 0.5), (0.3, 0.0)], ids=str)
@pytest.mark.parametrize(
    "prologue",
    [
        None,
        NORM,
        GeluPrologue("none"),
        GeluPrologue("tanh"),
        SwiGluPrologue(None),
        SwiGluPrologue(NORM),
    ],
)
def test_kernels_and_plain_autograd_agree(prologue, dropout, split):
    leaves = [torch.cat([X, 2 * X], -1).detach().requires_grad_(), *LEAVES[1:]]
    x = leaves[0] if isinstance(prologue, SwiGluPrologue) else leaves[0][..., :WIDTH_IN]
    outputs = []
    for kernels in (True, False):
        torch.manual_seed(0)  # the same masks
        layer = partial(
            low_rank_linear,
            x,
            WEIGHT,
            BIAS,
            deltas(dropout=dropout),
            prologue=prologue,
        )
        outputs.append(layer(split=split, kernels=kernels))
    ours, reference = outputs
    torch.testing.assert_close(ours, reference)
    pairs = (
        torch.autograd.grad((y * y.detach().cos()).sum(), leaves, retain_graph=True)
        for y in outputs
    )
    torch.testing.assert_close(*pairs)


def test_without_deltas_it_equals_the_layer():
    y = low_rank_linear(X, WEIGHT, BIAS, [])
    torch.testing.assert_close(y, F.linear(X, WEIGHT, BIAS))
    torch.testing.assert_close(
        torch.autograd.grad(y.sum(), X)[0], WEIGHT.sum(0).expand_as(X)
    )


def test_deltas_have_gradients_if_the_input_has_none():
    actual = low_rank_linear(X.detach(), WEIGHT, BIAS, deltas())
    reference = plain(X.detach())
    leaves = LEAVES[1:]
    torch.testing.assert_close(
        torch.autograd.grad(actual.sum(), leaves),
        torch.autograd.grad(reference.sum(), leaves),
    )


def test_dropout_keeps_the_mean():
    ones = torch.ones(1, WIDTH_IN)
    term = LowRankDelta(
        slice(None), torch.eye(WIDTH_IN), torch.eye(WIDTH_IN), 1.0, 0.25
    )
    x = torch.ones(4000, WIDTH_IN)
    zero = torch.zeros(WIDTH_IN, WIDTH_IN)
    dropped = low_rank_linear(x, zero, None, [term])
    assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    torch.testing.assert_close(dropped.mean(0, keepdim=True), ones, atol=0.05, rtol=0)


def test_checkpointing_draws_the_same_masks():
    def layer():
        return low_rank_linear(
            X, WEIGHT, BIAS, deltas(dropout=(0.5, 0.2)), prologue=NORM
        )

    torch.manual_seed(0)
    stored = gradients(layer())
    torch.manual_seed(0)
    torch.testing.assert_close(
        gradients(checkpoint(layer, use_reentrant=False)), stored, rtol=0, atol=0
    )


def test_a_weight_that_requires_a_gradient_is_refused():
    with pytest.raises(ValueError, match="frozen"):
        low_rank_linear(X, leaf(WIDTH_OUT, WIDTH_IN, seed=1), None, deltas())
    with pytest.raises(ValueError, match="frozen"):
        low_rank_linear(X, WEIGHT, leaf(WIDTH_OUT, seed=1), deltas())


def test_second_derivatives_are_refused():
    (gradient,) = torch.autograd.grad(
        low_rank_linear(X, WEIGHT, BIAS, deltas()).square().sum(), A1, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
