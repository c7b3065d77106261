"""Hypergradients against finite differences of the loss after the unrolled step, in float64."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from rsft.models.classifier import Classifier, CosineHead
from rsft.peft import AdaptFormer, LoRA, LoTR, attach
from rsft.training.meta.bilevel import hypergradient

LR = 0.01


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


def make_classifier(method, init_scale):
    """A ViT of two blocks with a modulator."""
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=16, patch_size=8, embed_dim=48, depth=2, num_heads=2, num_classes=0).eval()
    adapted = attach(vit, method, learn_scales=True, init_scale=init_scale)
    return Classifier(adapted, CosineHead(48, 3, scale=25.0), "token")


def make_loss(model, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(8, 3, 16, 16, generator=generator).to(dtype)
    labels = torch.randint(0, 3, (8,), generator=generator)
    return lambda: F.cross_entropy(model(images).to(dtype), labels)


def take_sgd_steps(model, steps, loss, lr=LR):
    for _ in range(steps):
        gradients = torch.autograd.grad(loss(), model.theta)
        with torch.no_grad():
            for parameter, gradient in zip(model.theta, gradients, strict=True):
                parameter -= lr * gradient


def true_hypergradient(model):
    """Central differences of the outer loss after the unrolled step, in float64."""
    inner, outer = (make_loss(model, seed, torch.float64) for seed in (0, 1))
    theta, (gamma,) = model.theta, model.adapted.gamma
    start = [parameter.detach().clone() for parameter in theta]

    def outer_loss(index, shift):
        gamma.data[index] += shift
        take_sgd_steps(model, 1, inner)
        loss = outer().item()
        gamma.data[index] -= shift
        for parameter, value in zip(theta, start, strict=True):
            parameter.data.copy_(value)
        return loss

    return torch.tensor([(outer_loss(i, 1e-5) - outer_loss(i, -1e-5)) / 2e-5 for i in range(len(gamma))])


def second_order(model, dtype=None):
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        (gradient,) = hypergradient(
            model.theta,
            model.adapted.gamma,
            make_loss(model, 0),
            make_loss(model, 1),
            order=2,
            lr=LR,
            full_precision=model.adapted.in_full_precision,
        )
    return gradient


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "init_scale", "steps"),
    [
        (
            LoRA(rank=1, positions="qkvo12", init="rank"),
            4.0,
            0,
        ),  # strong curvature, where a distance of 0.01 is 11 % off
        (LoRA(rank=2, init="rank"), 1.0, 10),
        (LoRA(rank=2), 1.0, 10),
        (LoTR(rank=2), 1.0, 10),
        (AdaptFormer(dim=4), 1.0, 10),
    ],
    ids=["strong LoRA", "LoRA by rank", "LoRA by width", "LoTR", "AdaptFormer"],
)
def test_second_order_is_the_gradient_of_the_unrolled_loss(method, init_scale, steps):
    model = make_classifier(method, init_scale)
    take_sgd_steps(model, steps, make_loss(model, 0))
    expected = true_hypergradient(model.double()).float()
    model.float()
    assert (second_order(model) - expected).norm() < 0.01 * expected.norm()
    first_order = torch.autograd.grad(make_loss(model, 1)(), model.adapted.gamma)[0]
    assert (first_order - expected).norm() > 0.01 * expected.norm()  # the second term matters


def test_bfloat16_is_close_and_sees_the_latest_theta():
    model = make_classifier(AdaptFormer(dim=4), 1.0)
    take_sgd_steps(model, 10, make_loss(model, 0))
    exact, rough = second_order(model), second_order(model, torch.bfloat16)
    assert (rough - exact).norm() < 0.05 * exact.norm()
    with torch.autocast("cpu", torch.bfloat16):  # whose cache keeps theta as it is at its first use
        take_sgd_steps(model, 1, make_loss(model, 0), lr=1.0)
        in_same_context = second_order(model, torch.bfloat16)
    assert torch.equal(in_same_context, second_order(model, torch.bfloat16))
