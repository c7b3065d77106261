import pytest
import torch
from torch import nn

from rsft.training.meta.hypergradient import hypergradient


def parameter(*values):
    return nn.Parameter(torch.tensor(values))


@pytest.mark.parametrize(("order", "expected"), [(1, -4), (2, 2)])
def test_the_quadratic_of_darts(order, expected):
    # L_train = w^2 - 2 a w + a^2, L_val = a w - 2 a + 1 at a = 2, w = -2, xi = 0.5: w' = a, and w' - 2 + a is 2
    w, a = parameter(-2.0), parameter(2.0)
    before = w.detach().clone()
    gradients = hypergradient(
        [w], [a], lambda: (w * w - 2 * a * w + a * a).sum(), lambda: (a * w - 2 * a + 1).sum(), order=order, lr=0.5
    )
    assert torch.equal(w, before)
    assert gradients[0].item() == pytest.approx(expected, abs=1e-3)


def test_second_order_is_the_gradient_through_the_step():
    torch.manual_seed(0)
    w, a = nn.Parameter(torch.randn(3, dtype=torch.float64)), nn.Parameter(torch.randn(2, dtype=torch.float64))

    def inner(w=w):
        return (w**2).sum() * a[0] + torch.sin(w).sum() * a[1]

    def outer(w=w):
        return (w**3).sum() + a.prod() * w[0]

    (approximate,) = hypergradient([w], [a], inner, outer, order=2, lr=0.1)
    (step,) = torch.autograd.grad(inner(), w, create_graph=True)
    (exact,) = torch.autograd.grad(outer(w - 0.1 * step), a)
    assert torch.allclose(approximate, exact, rtol=1e-4)


@pytest.mark.parametrize("order", [1, 2])
def test_a_loss_without_gamma_has_gradient_zero(order):
    w, a = parameter(1.0), parameter(1.0)
    gradients = hypergradient([w], [a], lambda: w.sum(), lambda: w.sum(), order=order, lr=0.1)
    assert gradients[0].item() == 0
