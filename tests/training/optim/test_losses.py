"""Losses for long-tailed data, against their formulas."""

import math

import pytest
import torch
from torch.nn import functional as F

from rsft.recipe.registries import LOSSES
from rsft.training.optim.losses import DeferredReweighting, set_progress
from rsft.training.optim.optimizers import make_loss

COUNTS = torch.tensor([90.0, 9.0, 1.0])
LOGITS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 0, 2])


def loss(name, counts=COUNTS, **keys):
    return make_loss(LOSSES[name](**keys), counts)


def value(name, logits=LOGITS, labels=LABELS, **keys):
    return loss(name, **keys)(logits, labels).item()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("logit_adjustment", 1.9821),
        ("ce", 1.4997),
        ("focal", 1.0244),
        ("ldam", 8.4428),
        ("class_balanced", 1.3666),
        ("balanced_softmax", 1.9821),
        ("lade", 2.5371),
    ],
)
def test_values_on_fixed_logits(name, expected):
    assert value(name) == pytest.approx(expected, abs=1e-4)


def test_every_loss_has_fixed_values():
    (rows,) = [mark.args[1] for mark in test_values_on_fixed_logits.pytestmark]
    assert [name for name, _ in rows] == list(LOSSES)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("ce", {}),
        ("logit_adjustment", {"tau": 0.0}),
        ("focal", {"gamma": 0.0}),
        ("class_balanced", {"beta": 0.0}),
        ("ldam", {"margin": 0.0}),
    ],
)
def test_losses_that_equal_cross_entropy(name, keys):
    assert value(name, **keys) == pytest.approx(F.cross_entropy(LOGITS, LABELS).item())


def test_focal():
    # p of the true class 0.75 and 0.25: 0.25^2 ln(4/3) and 0.75^2 ln 4
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    result = loss("focal", torch.ones(2), gamma=2.0)(logits, torch.tensor([0, 1])).item()
    assert result == pytest.approx((0.0625 * math.log(4 / 3) + 0.5625 * math.log(4)) / 2)


def test_focal_has_a_gradient_for_a_certain_chip():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss("focal", gamma=0.5)(logits, torch.tensor([0])).backward()
    assert logits.grad.isfinite().all()


def test_ldam_margins_scale_with_the_fourth_root_of_the_counts():
    # counts 16 and 1: margins 0.5 / 2 and 0.5, at scale 10 off the true logit
    results = [
        loss("ldam", torch.tensor([16.0, 1.0]), margin=0.5, margin_scale=10.0)(torch.zeros(1, 2), torch.tensor([label]))
        for label in (0, 1)
    ]
    assert [result.item() for result in results] == pytest.approx(
        [math.log1p(math.exp(2.5)), math.log1p(math.exp(5.0))]
    )


def test_effective_numbers():
    # beta 1/2: E = 2 (1 - 2^-n) = 1 and 1.5 for one and two chips; weights 1/E with the sum 2
    function = loss("class_balanced", torch.tensor([2.0, 1.0]), beta=0.5)
    values = [function(torch.zeros(1, 2), torch.tensor([label])).item() for label in (0, 1)]
    assert values == pytest.approx([0.8 * math.log(2), 1.2 * math.log(2)])


def test_weights_are_deferred():
    deferred = loss("ldam", margin=0.0, drw_start=0.8, beta=0.99)
    assert isinstance(deferred, DeferredReweighting)
    values = []
    for progress in (0.79, 0.8):
        set_progress(deferred, progress)
        values.append(deferred(LOGITS, LABELS).item())
    assert values == pytest.approx([value("ce"), value("class_balanced", beta=0.99)])
    set_progress(loss("ce"), 0.5)  # has no effect


def test_lade_equals_its_equation():
    prior, total = COUNTS / COUNTS.sum(), 0.0
    for c in range(3):
        first = LOGITS[[i for i in range(7) if LABELS[i] == c], c].mean()
        second = torch.stack([LOGITS[i, c].exp() / (3 * prior[LABELS[i]]) for i in range(7)]).mean().log()
        total += prior[c] * (second - first + 0.2 * second**2)
    expected = value("balanced_softmax") + 0.3 * total.item()
    assert value("lade", weight=0.3, penalty=0.2) == pytest.approx(expected, rel=1e-5)
