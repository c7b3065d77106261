"""Hypergradients against finite differences of the loss after the unrolled step, in
float64."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F

from rsft.models.classifier import Classifier, CosineHead, HeadAverage
from rsft.peft import AdaptFormer, LoRA, LoTR, attach
from rsft.recipe.schema import MetaSection, TrainSection
from rsft.training.fit import take_steps
from rsft.training.meta.bilevel import (
    BiLevelLoop,
    MetaSplitter,
    NonFiniteLossError,
    hypergradient,
    outer_batch_size,
)
from rsft.training.objective import Mixing, Objective
from tests.helpers.closeness import close
from tests.helpers.messages import mentions


def make_classifier(trained=True, early_head=False):
    """A tiny ViT with LoRA and a modulator; `trained` gives its modules weights other
    than 0."""
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0
    ).eval()
    adapted = attach(vit, LoRA(rank=2), learn_scales=True)
    if trained:
        for parameter in adapted.theta:
            nn.init.normal_(parameter, std=0.1)
    head = CosineHead(24, 3, scale=10.0)
    return Classifier(
        adapted,
        HeadAverage(head, {0: CosineHead(24, 3, 10.0)}) if early_head else head,
        "token",
    )


def make_batch(seed, rows=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, 16, 16, generator=generator), torch.randint(
        0, 3, (rows,), generator=generator
    )


LOOP_DEFAULTS = {
    "accumulate_grad_batches": 1,
    "precision": "fp32",
    "max_grad_norm": None,
}


def make_loops(model, lr=0.1, outer_lr=0.1, fused=None, **keys):
    """Return the loops of a model; the keys are those of the section `train` or
    `meta`."""
    inner = torch.optim.SGD(model.theta, lr=lr, momentum=0.9, fused=fused)
    outer = torch.optim.Adam(model.adapted.gamma, lr=outer_lr, fused=fused)
    options = {name: keys.pop(name, default) for name, default in LOOP_DEFAULTS.items()}
    return BiLevelLoop(
        model, inner, outer, MetaSection(**keys), TrainSection(epochs=1, **options)
    )


def losses_of(outer_batch=None, **keys):
    """Return the losses of a step."""
    losses = {"inner": F.cross_entropy, "outer": F.cross_entropy} | keys
    return Objective(**losses, outer_batch=outer_batch)


def snapshot(model, *optimizers):
    """Copies of all parameters, all optimizer states and the state of the generator."""
    tensors = [parameter.detach().clone() for parameter in model.parameters()]
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    moments = [
        value for state in states for value in state.values() if torch.is_tensor(value)
    ]
    return [*tensors, *(moment.clone() for moment in moments), torch.get_rng_state()]


def test_inner_steps_leave_gamma_and_outer_steps_leave_theta():
    model = make_classifier()
    loops = make_loops(model)
    gamma = model.adapted.gamma[0]
    theta = model.theta
    before = gamma.detach().clone()
    take_steps(loops, make_batch(0), losses_of())
    assert torch.equal(gamma, before)
    theta_before = deepcopy(theta)
    loops.outer_step(make_batch(0), losses_of(make_batch(1)))
    assert not torch.equal(gamma, before)
    assert all(torch.equal(a, b) for a, b in zip(theta, theta_before, strict=True))


@pytest.mark.parametrize("order", [1, 2])
def test_an_outer_step_with_learning_rate_zero_changes_nothing(order):
    model = make_classifier()
    loops = make_loops(model, outer_lr=0.0, order=order)
    take_steps(loops, make_batch(0), losses_of())  # gives SGD a momentum
    before = snapshot(model, loops.inner_optimizer)
    loops.outer_step(make_batch(0), losses_of(make_batch(1)))
    after = snapshot(model, loops.inner_optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_gamma_has_no_gradient_before_training():
    model = make_classifier(trained=False)
    make_loops(model, weight_decay=0.0).outer_step(
        make_batch(0), losses_of(make_batch(1))
    )
    assert model.adapted.gamma[0].grad.abs().max() == 0


@pytest.mark.parametrize("early_head", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_joint_gradients_equal_those_of_two_passes(early_head, checkpointing):
    first = make_classifier(early_head=early_head)
    second = make_classifier(early_head=early_head)
    second.adapted.checkpointing = checkpointing
    alternating = make_loops(first, lr=0.0, outer_lr=0.0)
    joint = make_loops(second, lr=0.0, outer_lr=0.0, schedule="joint")
    batch = make_batch(0)
    outer_batch = make_batch(1, rows=3)
    losses = [
        alternating.inner_step(batch, losses_of()),
        alternating.outer_step(batch, losses_of(outer_batch)),
    ]
    joint_losses = torch.stack(take_steps(joint, batch, losses_of(outer_batch)))
    assert joint_losses.tolist() == pytest.approx(torch.stack(losses).tolist())
    for a, b in zip(
        [*first.theta, *first.adapted.gamma],
        [*second.theta, *second.adapted.gamma],
        strict=True,
    ):
        assert a.grad.abs().max() > 0
        assert close([a.grad], [b.grad])


def test_accumulated_batches_equal_one_large_batch():
    large = make_classifier()
    small = make_classifier()
    images, labels = make_batch(0, rows=16)
    take_steps(make_loops(large), (images, labels), losses_of())
    loops = make_loops(small, accumulate_grad_batches=2)
    take_steps(loops, (images[:8], labels[:8]), losses_of())
    assert torch.equal(small.theta[0], make_classifier().theta[0])
    take_steps(loops, (images[8:], labels[8:]), losses_of())
    assert all(
        torch.allclose(a, b, atol=1e-6)
        for a, b in zip(large.theta, small.theta, strict=True)
    )


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_both_loops_lower_their_loss(schedule):
    loops = make_loops(make_classifier(), lr=0.02, outer_lr=0.02, schedule=schedule)
    first, *_, last = [
        torch.stack(take_steps(loops, make_batch(0), losses_of(make_batch(0))))
        for _ in range(15)
    ]
    assert (last < first - 0.1).all()


@pytest.mark.parametrize("meta", [{"order": 1}, {"order": 2}, {"schedule": "joint"}])
def test_each_loop_has_its_own_loss(meta):
    losses = {}
    for number in (1, 2):
        model = make_classifier()
        loops = make_loops(model, lr=0.0, outer_lr=0.0, weight_decay=0.0, **meta)
        outer = F.cross_entropy
        if number == 2:
            outer = lambda logits, labels: 2 * F.cross_entropy(logits, labels)  # noqa: E731
        values = take_steps(loops, make_batch(0), losses_of(make_batch(1), outer=outer))
        losses[number] = (
            [x.item() for x in values],
            model.theta[0].grad.clone(),
            model.adapted.gamma[0].grad.clone(),
        )
    assert losses[2][0] == pytest.approx([losses[1][0][0], 2 * losses[1][0][1]])
    assert torch.allclose(losses[2][1], losses[1][1])
    assert (
        torch.allclose(losses[2][2], 2 * losses[1][2]) and losses[1][2].abs().max() > 0
    )


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_mixed_pairs_of_chips(schedule):
    """The inner loss is the mean of the losses of both labels, by their shares of the
    image (Zhang et al. 2018)."""
    model = make_classifier()
    batch = make_batch(0)
    outer_batch = make_batch(1)
    loops = make_loops(model, schedule=schedule)
    order = torch.tensor([1, 2, 3, 4, 5, 6, 7, 0])
    (inputs, labels), share = batch, 0.3
    with torch.no_grad():
        logits = model(share * inputs + (1 - share) * inputs[order])
    expected = share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(
        logits, labels[order]
    )
    with torch.no_grad():
        plain, outer = (F.cross_entropy(model(x), y) for x, y in (batch, outer_batch))
    objective = losses_of(outer_batch, mixing=Mixing(share, order))
    losses = take_steps(loops, batch, objective)
    assert close(losses[:1], [expected]) and not close(losses[:1], [plain])
    # outer batches are not mixed
    assert schedule == "alternating" or close(losses[1:], [outer])


def test_loss_that_is_not_finite_changes_no_parameter():
    model = make_classifier()
    before = deepcopy(model.theta)
    loops = make_loops(model)
    objective = losses_of(inner=lambda logits, labels: logits.sum() * torch.nan)
    with pytest.raises(NonFiniteLossError, match=mentions("inner loop", "nan")):
        take_steps(loops, make_batch(0), objective)
    assert all(torch.equal(a, b) for a, b in zip(model.theta, before, strict=True))


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
@pytest.mark.parametrize("loop", ["inner", "outer"])
def test_a_fused_step_of_a_loss_that_is_not_finite_is_skipped(schedule, loop):
    """The error comes after the step, for which nothing waits; it changes nothing."""
    model = make_classifier()
    loops = make_loops(model, schedule=schedule, fused=True)
    take_steps(loops, make_batch(0), losses_of(make_batch(1)))
    changed_theta = schedule == "alternating" and loop == "outer"
    before = deepcopy([*model.theta, *model.adapted.gamma])
    bad = {loop: lambda logits, labels: logits.sum() * torch.nan}
    with pytest.raises(NonFiniteLossError, match=mentions(f"{loop} loop", "nan")):
        take_steps(loops, make_batch(0), losses_of(make_batch(1), **bad))
    after = [*model.theta, *model.adapted.gamma]
    equal = [torch.equal(a, b) for a, b in zip(after, before, strict=True)]
    # the inner step of the alternating schedule came before, with a finite loss
    assert equal[-1] and all(equal) is not changed_theta


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_a_fused_step_is_the_same_step(schedule):
    models = make_classifier(), make_classifier()
    for model, fused in zip(models, (None, True), strict=True):
        loops = make_loops(model, schedule=schedule, fused=fused)
        for number in range(3):
            take_steps(loops, make_batch(number), losses_of(make_batch(9)))
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_loss_scaling_does_not_change_steps(schedule):
    models = make_classifier(), make_classifier()
    for model, precision in zip(models, ("fp32", "fp16"), strict=True):
        loops = make_loops(
            model,
            precision=precision,
            max_grad_norm=0.5,
            accumulate_grad_batches=2,
            schedule=schedule,
        )
        losses = [
            take_steps(
                loops,
                make_batch(number),
                losses_of(make_batch(9) if number % 2 else None),
            )
            for number in range(4)
        ]
        assert losses[-1][1] < 10  # the returned loss is not scaled
    assert loops.inner_scaler.get_scale() == 2.0**16
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_an_overflow_skips_the_step_of_its_loop_and_halves_its_scale(schedule):
    model = make_classifier()
    loops = make_loops(model, lr=1e-4, precision="fp16", schedule=schedule)
    loops.outer_scaler = GradScaler("cpu", init_scale=2.0**127)

    def loss(logits, labels):
        return 1000 * F.cross_entropy(logits, labels)

    objective = losses_of(make_batch(1), inner=loss, outer=loss)
    gamma = model.adapted.gamma[0].detach().clone()
    theta = model.theta[0].detach().clone()
    take_steps(loops, make_batch(0), objective)
    assert torch.equal(model.adapted.gamma[0], gamma) and not torch.equal(
        model.theta[0], theta
    )
    assert [
        scaler.get_scale() for scaler in (loops.inner_scaler, loops.outer_scaler)
    ] == [2.0**16, 2.0**126]


@pytest.mark.slow
def test_training_in_float16_lowers_both_losses():
    loops = make_loops(make_classifier(), lr=0.02, outer_lr=0.02, precision="fp16")
    with torch.autocast("cpu", torch.float16):
        first, *_, last = [
            torch.stack(take_steps(loops, make_batch(0), losses_of(make_batch(0))))
            for _ in range(15)
        ]
    assert (last < first - 0.1).all()


LR = 0.01


def parameter(*values):
    return nn.Parameter(torch.tensor(values))


@pytest.mark.parametrize(("order", "expected"), [(1, -4), (2, 2)])
def test_the_quadratic_of_darts(order, expected):
    # L_train = w^2 - 2 a w + a^2, L_val = a w - 2 a + 1 at a = 2, w = -2, xi = 0.5: w'
    # = a, and w' - 2 + a is 2
    w = parameter(-2.0)
    a = parameter(2.0)
    before = w.detach().clone()
    losses = (
        lambda: (w * w - 2 * a * w + a * a).sum(),
        lambda: (a * w - 2 * a + 1).sum(),
    )
    gradients = hypergradient([w], [a], *losses, order=order, lr=0.5)
    assert torch.equal(w, before)
    assert gradients[0].item() == pytest.approx(expected, abs=1e-3)


def test_second_order_is_the_gradient_through_the_step():
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(3, dtype=torch.float64))
    a = nn.Parameter(torch.randn(2, dtype=torch.float64))

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
    w = parameter(1.0)
    a = parameter(1.0)
    gradients = hypergradient(
        [w], [a], lambda: w.sum(), lambda: w.sum(), order=order, lr=0.1
    )
    assert gradients[0].item() == 0


def make_smooth_classifier(method, init_scale):
    """A ViT of two blocks with a modulator."""
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=48, depth=2, num_heads=2, num_classes=0
    ).eval()
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
    inner = make_loss(model, 0, torch.float64)
    outer = make_loss(model, 1, torch.float64)
    theta = model.theta
    (gamma,) = model.adapted.gamma
    start = [parameter.detach().clone() for parameter in theta]

    def outer_loss(index, shift):
        gamma.data[index] += shift
        take_sgd_steps(model, 1, inner)
        loss = outer().item()
        gamma.data[index] -= shift
        for parameter, value in zip(theta, start, strict=True):
            parameter.data.copy_(value)
        return loss

    return torch.tensor(
        [(outer_loss(i, 1e-5) - outer_loss(i, -1e-5)) / 2e-5 for i in range(len(gamma))]
    )


def second_order(model, dtype=None):
    losses = (make_loss(model, 0), make_loss(model, 1))
    options = {"full_precision": model.adapted.in_full_precision}
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        (gradient,) = hypergradient(
            model.theta, model.adapted.gamma, *losses, order=2, lr=LR, **options
        )
    return gradient


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "init_scale", "steps"),
    [
        # strong curvature, where a distance of 0.01 is 11 % off
        (LoRA(rank=1, positions="qkvo12", init="rank"), 4.0, 0),
        (LoRA(rank=2, init="rank"), 1.0, 10),
        (LoRA(rank=2), 1.0, 10),
        (LoTR(rank=2), 1.0, 10),
        (AdaptFormer(dim=4), 1.0, 10),
    ],
    ids=["strong LoRA", "LoRA by rank", "LoRA by width", "LoTR", "AdaptFormer"],
)
def test_second_order_is_the_gradient_of_the_unrolled_loss(method, init_scale, steps):
    model = make_smooth_classifier(method, init_scale)
    take_sgd_steps(model, steps, make_loss(model, 0))
    expected = true_hypergradient(model.double()).float()
    model.float()
    assert (second_order(model) - expected).norm() < 0.01 * expected.norm()
    first_order = torch.autograd.grad(make_loss(model, 1)(), model.adapted.gamma)[0]
    # the second term matters
    assert (first_order - expected).norm() > 0.01 * expected.norm()


def test_bfloat16_is_close_and_sees_the_latest_theta():
    model = make_smooth_classifier(AdaptFormer(dim=4), 1.0)
    take_sgd_steps(model, 10, make_loss(model, 0))
    exact = second_order(model)
    rough = second_order(model, torch.bfloat16)
    assert (rough - exact).norm() < 0.05 * exact.norm()
    # whose cache keeps theta as it is at its first use
    with torch.autocast("cpu", torch.bfloat16):
        take_sgd_steps(model, 1, make_loss(model, 0), lr=1.0)
        in_same_context = second_order(model, torch.bfloat16)
    assert torch.equal(in_same_context, second_order(model, torch.bfloat16))


LABELS = np.repeat([0, 1, 2, 3], [100, 40, 5, 2])


def make_splitter(batch_size=16, seed=0, **meta):
    return MetaSplitter(
        LABELS,
        MetaSection(**({"ratio": 0.2, "holdout": True} | meta)),
        batch_size,
        seed,
    )


def test_the_meta_subset_is_stratified():
    assert np.bincount(LABELS[make_splitter().meta_subset(0)]).tolist() == [20, 8, 1, 1]


def test_holdout_separates_the_loops_with_every_class_on_both_sides():
    splitter = make_splitter()
    assert not set(splitter.meta_subset(3)) & set(splitter.inner_subset(3))
    assert len(splitter.meta_subset(3)) + len(splitter.inner_subset(3)) == len(LABELS)
    assert (
        set(LABELS[splitter.inner_subset(3)])
        == set(LABELS[splitter.meta_subset(3)])
        == {0, 1, 2, 3}
    )


def test_without_holdout_the_inner_loop_sees_all_chips():
    assert len(make_splitter(holdout=False).inner_subset(0)) == len(LABELS)


def test_every_epoch_has_another_split_that_depends_on_the_seed_only():
    assert not np.array_equal(
        make_splitter().meta_subset(0), make_splitter().meta_subset(1)
    )
    assert np.array_equal(
        make_splitter().meta_subset(1), make_splitter().meta_subset(1)
    )
    assert not np.array_equal(
        make_splitter().meta_subset(0), make_splitter(seed=1).meta_subset(0)
    )
    assert np.array_equal(
        make_splitter().meta_batch(2, 5), make_splitter().meta_batch(2, 5)
    )


def test_class_of_one_chip_is_in_the_inner_loop():
    labels = np.array([0, 0, 0, 1])
    splitter = MetaSplitter(
        labels, MetaSection(ratio=0.5, holdout=True), batch_size=2, seed=0
    )
    assert 3 in splitter.inner_subset(0)


@pytest.mark.parametrize(
    ("sampling", "tail_share"),
    [
        ("random", 2 / 30),
        ("class-balanced", 0.5),
        ("tail-heavy", 2 / (2 + 1 / 8 + 1 / 20)),
    ],
)
def test_sampling_determines_the_share_of_the_tail(sampling, tail_share):
    splitter = make_splitter(sampling=sampling)
    drawn = np.concatenate(
        [LABELS[splitter.meta_batch(0, number)] for number in range(400)]
    )
    assert np.mean(drawn >= 2) == pytest.approx(tail_share, abs=0.03)


def test_random_batches_have_no_repeated_chip():
    batch = make_splitter(batch_size=30).meta_batch(0, 0)
    assert sorted(batch) == make_splitter().meta_subset(0).tolist()


def test_split_is_kept_for_several_epochs():
    splitter = make_splitter(resplit_every=3)
    assert np.array_equal(splitter.meta_subset(0), splitter.meta_subset(2))
    assert not np.array_equal(splitter.meta_subset(2), splitter.meta_subset(3))
    assert not np.array_equal(splitter.meta_batch(0, 0), splitter.meta_batch(1, 0))


@pytest.mark.parametrize(
    ("meta", "size"),
    [
        ({"batch_size": 5}, 5),
        ({}, 32),
        # 128 inner chips, 0.2 / 0.8 of the epoch
        (
            {"schedule": "joint", "ratio": 0.2, "outer_every": 2},
            32,
        ),
        ({"schedule": "joint", "ratio": 0.25, "outer_every": 1, "holdout": False}, 16),
    ],
)
def test_the_size_of_an_outer_batch(meta, size):
    train = TrainSection(epochs=1, batch_size=32, accumulate_grad_batches=2)
    assert outer_batch_size(MetaSection(**meta), train) == size
