"""The class prior of a loss is that of the chips as they are drawn."""

import math

import pytest
import torch
from torch.nn import functional as F

from rsft.recipe.registries import LOSSES, SAMPLERS, sampling_exponent
from rsft.training.optim.optimizers import make_loss, make_losses

COUNTS = torch.tensor([100, 25, 4, 1])
LOGITS = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 0, 2, 3])
CROSS_ENTROPY = F.cross_entropy(LOGITS, LABELS).item()


class CountsLoss:
    """Keeps the counts that it is made with."""

    def make(self, class_counts, drawn_counts):
        self.counts = class_counts, drawn_counts
        return F.cross_entropy


def counts_of(class_counts, exponent):
    loss = CountsLoss()
    make_loss(loss, class_counts, exponent)
    return [counts.tolist() for counts in loss.counts]


def shift_of(function):
    """What a loss adds to each logit, up to a constant: with all logits 0 it is -log of a softmax of the shifts."""
    losses = torch.stack([function(torch.zeros(1, 4), torch.tensor([label])) for label in range(4)])
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
    counts, drawn = counts_of(COUNTS, sampling_exponent(sampler))
    assert counts == COUNTS.tolist() and drawn == pytest.approx(draws)


def test_natural_draws_are_the_class_counts_to_the_bit():
    counts = torch.rand(1000, generator=torch.Generator().manual_seed(0)) * 1e4
    assert counts_of(counts, 1.0) == [counts.clamp(min=1).tolist()] * 2


@pytest.mark.parametrize(("exponent", "share"), [(1.0, 1 / 101), (0.5, 1 / 11), (0.0, 1 / 2), (-1.0, 1 / 2)])
def test_a_class_without_chips_is_at_most_as_frequent_as_one_chip_and_as_every_other_class(exponent, share):
    counts, drawn = counts_of(torch.tensor([100.0, 0.0]), exponent)
    assert counts == [100, 1] and drawn == pytest.approx([101 * (1 - share), 101 * share])


@pytest.mark.parametrize("tau", [1.0, 2.0, 0.0])
@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_logit_adjustment_adds_q_tau_log_n(sampler, tau):
    exponent = {"natural": 1, "random": 1, "square-root": 0.5, "class-balanced": 0, "tail-heavy": -1}[sampler]
    function = make_loss(LOSSES["logit_adjustment"](tau=tau), COUNTS, sampling_exponent(sampler))
    expected = [exponent * tau * math.log(n) for n in COUNTS.tolist()]
    assert shift_of(function) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["balanced_softmax", "lade"])
def test_losses_with_the_prior_of_logit_adjustment(name):
    keys = {"weight": 0.0} if name == "lade" else {}
    function = make_loss(LOSSES[name](**keys), COUNTS, 0.5)
    assert shift_of(function) == pytest.approx([math.log(n) / 2 for n in COUNTS.tolist()], abs=1e-5)


def test_lade_of_balanced_draws_is_lade_of_equal_counts():
    equal = make_loss(LOSSES["lade"](weight=1.0), torch.full((4,), 10))
    balanced = make_loss(LOSSES["lade"](weight=1.0), COUNTS, 0.0)
    assert balanced(LOGITS, LABELS).item() == pytest.approx(equal(LOGITS, LABELS).item(), rel=1e-5)


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0, -1.0])
def test_the_share_of_a_class_in_class_balanced_loss_does_not_depend_on_the_sampler(exponent):
    function = make_loss(LOSSES["class_balanced"](beta=0.9), COUNTS, exponent)
    weights = [function(torch.zeros(1, 4), torch.tensor([label])).item() / math.log(4) for label in range(4)]
    assert sum(weights) == pytest.approx(4)
    shares = [weight * n**exponent for weight, n in zip(weights, COUNTS.tolist(), strict=True)]
    expected = [n / (1 - 0.9**n) for n in COUNTS.tolist()]  # n / E_n
    assert [x / sum(shares) for x in shares] == pytest.approx([x / sum(expected) for x in expected], rel=1e-5)


def test_margins_of_ldam_count_different_chips():
    ldam = LOSSES["ldam"]()
    plain, balanced = (make_loss(ldam, COUNTS, exponent)(LOGITS, LABELS) for exponent in (1.0, 0.0))
    assert torch.equal(plain, balanced) and not ldam.uses_prior


def test_weights_of_ldam_follow_the_sampler():
    ldam = LOSSES["ldam"](margin=0.0, drw_start=0.0, beta=0.9)
    assert ldam.uses_prior
    expected = make_loss(LOSSES["class_balanced"](beta=0.9), COUNTS, 0.5)(LOGITS, LABELS)
    assert torch.equal(make_loss(ldam, COUNTS, 0.5)(LOGITS, LABELS), expected)


@pytest.mark.parametrize("name", ["ce", "focal"])
def test_losses_without_a_prior(name):
    first, second = (make_loss(LOSSES[name](), COUNTS, exponent)(LOGITS, LABELS) for exponent in (1.0, -1.0))
    assert torch.equal(first, second)


@pytest.mark.parametrize("exponent", [0.5, 0.0, -1.0])
@pytest.mark.parametrize("name", list(LOSSES))
def test_class_without_chips(name, exponent):
    logits = LOGITS.clone().requires_grad_()
    make_loss(LOSSES[name](), torch.tensor([90, 10, 3, 0]), exponent)(logits, LABELS.clamp(max=2)).backward()
    assert logits.grad.isfinite().all() and logits.grad.abs().max() > 0


def test_each_use_has_its_own_prior():
    losses = make_losses(LOSSES["logit_adjustment"](), COUNTS, 0.5, -1.0)
    logs = torch.tensor([math.log(n) for n in COUNTS.tolist()])
    for function, exponent in ((losses.inner, 0.5), (losses.outer, -1.0), (losses.validation, 1.0)):
        assert shift_of(function) == pytest.approx((exponent * logs).tolist(), abs=1e-5)


def test_progress_reaches_every_use():
    losses = make_losses(LOSSES["ldam"](drw_start=0.5), COUNTS, 0.5, 0.0)
    losses.set_progress(0.7)
    assert [x.progress for x in (losses.inner, losses.outer, losses.validation)] == [0.7] * 3
    make_losses(LOSSES["ce"](), COUNTS, 1.0, 1.0).set_progress(0.7)  # has no effect


def test_a_loss_of_another_package_may_take_the_class_counts_only():
    class OldLoss:
        def make(self, class_counts, smoothing=0.0):
            return lambda logits, labels: class_counts.sum() + smoothing

    assert make_loss(OldLoss(), COUNTS, 0.5)(LOGITS, LABELS).item() == 130
