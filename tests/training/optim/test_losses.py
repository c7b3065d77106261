"""Losses for long-tailed data, against their formulas."""

import math

import pytest
import torch
from torch.nn import functional as F

from rsft.recipe.registries import LOSSES, SAMPLERS, sampling_exponent
from rsft.training.optim.losses import DeferredReweighting
from rsft.training.optim.optimizers import (
    make_loss,
    make_losses,
)

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
    result = loss("focal", torch.ones(2), gamma=2.0)(
        logits, torch.tensor([0, 1])
    ).item()
    assert result == pytest.approx(
        (0.0625 * math.log(4 / 3) + 0.5625 * math.log(4)) / 2
    )


def test_focal_has_a_gradient_for_a_certain_chip():
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    loss("focal", gamma=0.5)(logits, torch.tensor([0])).backward()
    assert logits.grad.isfinite().all()


def test_ldam_margins_scale_with_the_fourth_root_of_the_counts():
    # counts 16 and 1: margins 0.5 / 2 and 0.5, at scale 10 off the true logit
    ldam = loss("ldam", torch.tensor([16.0, 1.0]), margin=0.5, margin_scale=10.0)
    values = [ldam(torch.zeros(1, 2), torch.tensor([label])).item() for label in (0, 1)]
    assert values == pytest.approx(
        [math.log1p(math.exp(2.5)), math.log1p(math.exp(5.0))]
    )


def test_effective_numbers():
    # beta 1/2: E = 2 (1 - 2^-n) = 1 and 1.5 for one and two chips; weights 1/E with the
    # sum 2
    function = loss("class_balanced", torch.tensor([2.0, 1.0]), beta=0.5)
    values = [
        function(torch.zeros(1, 2), torch.tensor([label])).item() for label in (0, 1)
    ]
    assert values == pytest.approx([0.8 * math.log(2), 1.2 * math.log(2)])


def test_weights_are_deferred():
    deferred = loss("ldam", margin=0.0, drw_start=0.8, beta=0.99)
    assert isinstance(deferred, DeferredReweighting)
    values = []
    for progress in (0.79, 0.8):
        values.append(deferred.at(progress)(LOGITS, LABELS).item())
    assert values == pytest.approx([value("ce"), value("class_balanced", beta=0.99)])


def test_lade_equals_its_equation():
    prior = COUNTS / COUNTS.sum()
    total = 0.0
    for c in range(3):
        first = LOGITS[[i for i in range(7) if LABELS[i] == c], c].mean()
        second = (
            torch.stack([LOGITS[i, c].exp() / (3 * prior[LABELS[i]]) for i in range(7)])
            .mean()
            .log()
        )
        total += prior[c] * (second - first + 0.2 * second**2)
    expected = value("balanced_softmax") + 0.3 * total.item()
    assert value("lade", weight=0.3, penalty=0.2) == pytest.approx(expected, rel=1e-5)


PRIOR_COUNTS = torch.tensor([100, 25, 4, 1])
DRAWN = (
    torch.randn(9, 4, generator=torch.Generator().manual_seed(0)),
    torch.tensor([0, 1, 2, 3, 0, 1, 0, 2, 3]),
)
CROSS_ENTROPY = F.cross_entropy(*DRAWN).item()


class CountsLoss:
    """Returns the counts that it is made with."""

    def make(self, class_counts, drawn_counts):
        return [class_counts.tolist(), drawn_counts.tolist()]


def counts_of(class_counts, exponent):
    return make_loss(CountsLoss(), class_counts, exponent)


def shift_of(function):
    """What a loss adds to each logit, up to a constant: with all logits 0 it is -log of
    a softmax of the shifts."""
    losses = torch.stack(
        [function(torch.zeros(1, 4), torch.tensor([label])) for label in range(4)]
    )
    return (losses[-1] - losses).tolist()


@pytest.mark.parametrize(
    ("sampler", "draws"),
    [
        ("natural", [100, 25, 4, 1]),
        ("random", [100, 25, 4, 1]),
        ("square-root", [130 * x / 18 for x in (10, 5, 2, 1)]),
        ("class-balanced", [32.5] * 4),
        ("tail-heavy", [130 * x / 1.3 for x in (0.01, 0.04, 0.25, 1)]),
    ],
)
def test_expected_draws_of_an_epoch(sampler, draws):
    counts, drawn = counts_of(PRIOR_COUNTS, sampling_exponent(sampler))
    assert counts == PRIOR_COUNTS.tolist() and drawn == pytest.approx(draws)


def test_natural_draws_are_the_class_counts_to_the_bit():
    counts = torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 1e4
    assert counts_of(counts, 1.0) == [counts.clamp(min=1).tolist()] * 2


@pytest.mark.parametrize(
    ("exponent", "share"), [(1.0, 1 / 101), (0.5, 1 / 11), (0.0, 1 / 2), (-1.0, 1 / 2)]
)
def test_a_class_without_chips_is_at_most_as_frequent_as_one_chip_and_as_every_other_class(
    exponent, share
):
    counts, drawn = counts_of(torch.tensor([100.0, 0.0]), exponent)
    assert counts == [100, 1] and drawn == pytest.approx(
        [101 * (1 - share), 101 * share]
    )


@pytest.mark.parametrize("tau", [1.0, 2.0, 0.0])
@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_logit_adjustment_adds_q_tau_log_n(sampler, tau):
    # others, also those of plug-ins, draw classes as often as they are
    exponents = {"square-root": 0.5, "class-balanced": 0, "tail-heavy": -1}
    exponent = exponents.get(sampler, 1)
    function = make_loss(
        LOSSES["logit_adjustment"](tau=tau), PRIOR_COUNTS, sampling_exponent(sampler)
    )
    expected = [exponent * tau * math.log(n) for n in PRIOR_COUNTS.tolist()]
    assert shift_of(function) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["balanced_softmax", "lade"])
def test_losses_with_the_prior_of_logit_adjustment(name):
    keys = {"weight": 0.0} if name == "lade" else {}
    function = make_loss(LOSSES[name](**keys), PRIOR_COUNTS, 0.5)
    assert shift_of(function) == pytest.approx(
        [math.log(n) / 2 for n in PRIOR_COUNTS.tolist()], abs=1e-5
    )


def test_lade_of_balanced_draws_is_lade_of_equal_counts():
    equal = make_loss(LOSSES["lade"](weight=1.0), torch.full((4,), 10))
    balanced = make_loss(LOSSES["lade"](weight=1.0), PRIOR_COUNTS, 0.0)
    assert balanced(*DRAWN).item() == pytest.approx(equal(*DRAWN).item(), rel=1e-5)


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0, -1.0])
def test_the_share_of_a_class_in_class_balanced_loss_does_not_depend_on_the_sampler(
    exponent,
):
    function = make_loss(LOSSES["class_balanced"](beta=0.9), PRIOR_COUNTS, exponent)
    weights = [
        function(torch.zeros(1, 4), torch.tensor([label])).item() / math.log(4)
        for label in range(4)
    ]
    assert sum(weights) == pytest.approx(4)
    shares = [
        weight * n**exponent
        for weight, n in zip(weights, PRIOR_COUNTS.tolist(), strict=True)
    ]
    expected = [n / (1 - 0.9**n) for n in PRIOR_COUNTS.tolist()]  # n / E_n
    assert [x / sum(shares) for x in shares] == pytest.approx(
        [x / sum(expected) for x in expected], rel=1e-5
    )


def test_margins_of_ldam_count_different_chips():
    ldam = LOSSES["ldam"]()
    plain = make_loss(ldam, PRIOR_COUNTS, 1.0)(*DRAWN)
    balanced = make_loss(ldam, PRIOR_COUNTS, 0.0)(*DRAWN)
    assert torch.equal(plain, balanced)


def test_weights_of_ldam_follow_the_sampler():
    ldam = LOSSES["ldam"](margin=0.0, drw_start=0.0, beta=0.9)
    expected = make_loss(LOSSES["class_balanced"](beta=0.9), PRIOR_COUNTS, 0.5)(*DRAWN)
    assert torch.equal(make_loss(ldam, PRIOR_COUNTS, 0.5)(*DRAWN), expected)


@pytest.mark.parametrize("name", ["ce", "focal"])
def test_losses_without_a_prior(name):
    first = make_loss(LOSSES[name](), PRIOR_COUNTS, 1.0)(*DRAWN)
    second = make_loss(LOSSES[name](), PRIOR_COUNTS, -1.0)(*DRAWN)
    assert torch.equal(first, second)


@pytest.mark.parametrize("exponent", [0.5, 0.0, -1.0])
@pytest.mark.parametrize("name", list(LOSSES))
def test_class_without_chips(name, exponent):
    logits = DRAWN[0].clone().requires_grad_()
    make_loss(LOSSES[name](), torch.tensor([90, 10, 3, 0]), exponent)(
        logits, DRAWN[1].clamp(max=2)
    ).backward()
    assert logits.grad.isfinite().all() and logits.grad.abs().max() > 0


def test_each_use_has_its_own_prior():
    losses = make_losses(LOSSES["logit_adjustment"](), PRIOR_COUNTS, 0.5, -1.0)
    logs = torch.tensor([math.log(n) for n in PRIOR_COUNTS.tolist()])
    for function, exponent in (
        (losses.inner, 0.5),
        (losses.outer, -1.0),
        (losses.validation, 1.0),
    ):
        assert shift_of(function) == pytest.approx((exponent * logs).tolist(), abs=1e-5)


def test_a_loss_of_another_package_may_take_the_class_counts_only():
    class OldLoss:
        def make(self, class_counts, smoothing=0.0):
            return lambda logits, labels: class_counts.sum() + smoothing

    assert make_loss(OldLoss(), PRIOR_COUNTS, 0.5)(*DRAWN).item() == 130
