from copy import deepcopy

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F

from rsft.models.classifier import Classifier, CosineHead, HeadAverage
from rsft.peft import LoRA, attach
from rsft.recipe.schema import MetaSection
from rsft.training.fit import take_steps
from rsft.training.meta.bilevel import BiLevelLoop, NonFiniteLossError
from tests.helpers.closeness import close
from tests.helpers.messages import mentions


def make_classifier(trained=True, early_head=False):
    """A tiny ViT with LoRA and a modulator; `trained` gives its modules weights other than 0."""
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0).eval()
    adapted = attach(vit, LoRA(rank=2), learn_scales=True)
    if trained:
        for parameter in adapted.theta:
            nn.init.normal_(parameter, std=0.1)
    head = CosineHead(24, 3, scale=10.0)
    return Classifier(adapted, HeadAverage(head, {0: CosineHead(24, 3, 10.0)}) if early_head else head, "token")


def make_batch(seed, rows=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, 16, 16, generator=generator), torch.randint(0, 3, (rows,), generator=generator)


def make_loops(
    model, lr=0.1, outer_lr=0.1, accumulate_grad_batches=1, scale_losses=False, max_grad_norm=None, **meta
) -> BiLevelLoop:
    inner = torch.optim.SGD(model.theta, lr=lr, momentum=0.9)
    outer = torch.optim.Adam(model.adapted.gamma, lr=outer_lr)
    return BiLevelLoop(
        model,
        F.cross_entropy,
        inner,
        outer,
        MetaSection(**meta),
        accumulate_grad_batches=accumulate_grad_batches,
        scale_losses=scale_losses,
        max_grad_norm=max_grad_norm,
    )


def snapshot(model, *optimizers):
    """Copies of all parameters, all optimizer states and the state of the generator."""
    tensors = [parameter.detach().clone() for parameter in model.parameters()]
    states = [state for optimizer in optimizers for state in optimizer.state.values()]
    moments = [value for state in states for value in state.values() if torch.is_tensor(value)]
    return [*tensors, *(moment.clone() for moment in moments), torch.get_rng_state()]


def test_inner_steps_leave_gamma_and_outer_steps_leave_theta():
    model = make_classifier()
    loops = make_loops(model)
    gamma, theta = model.adapted.gamma[0], model.theta
    before = gamma.detach().clone()
    take_steps(loops, make_batch(0))
    assert torch.equal(gamma, before)
    theta_before = deepcopy(theta)
    loops.outer_step(make_batch(0), make_batch(1))
    assert not torch.equal(gamma, before)
    assert all(torch.equal(a, b) for a, b in zip(theta, theta_before, strict=True))


@pytest.mark.parametrize("order", [1, 2])
def test_an_outer_step_with_learning_rate_zero_changes_nothing(order):
    model = make_classifier()
    loops = make_loops(model, outer_lr=0.0, order=order)
    take_steps(loops, make_batch(0))  # gives SGD a momentum
    before = snapshot(model, loops.inner_optimizer)
    loops.outer_step(make_batch(0), make_batch(1))
    after = snapshot(model, loops.inner_optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_gamma_has_no_gradient_before_training():
    model = make_classifier(trained=False)
    make_loops(model, weight_decay=0.0).outer_step(make_batch(0), make_batch(1))
    assert model.adapted.gamma[0].grad.abs().max() == 0


@pytest.mark.parametrize("early_head", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_joint_gradients_equal_those_of_two_passes(early_head, checkpointing):
    first, second = make_classifier(early_head=early_head), make_classifier(early_head=early_head)
    second.adapted.checkpointing = checkpointing
    alternating = make_loops(first, lr=0.0, outer_lr=0.0)
    joint = make_loops(second, lr=0.0, outer_lr=0.0, schedule="joint")
    batch, outer_batch = make_batch(0), make_batch(1, rows=3)
    losses = [alternating.inner_step(batch), alternating.outer_step(batch, outer_batch)]
    joint_losses = torch.stack(take_steps(joint, batch, outer_batch))
    assert joint_losses.tolist() == pytest.approx(torch.stack(losses).tolist())
    for a, b in zip([*first.theta, *first.adapted.gamma], [*second.theta, *second.adapted.gamma], strict=True):
        assert a.grad.abs().max() > 0
        assert close([a.grad], [b.grad])


def test_accumulated_batches_equal_one_large_batch():
    large, small = make_classifier(), make_classifier()
    images, labels = make_batch(0, rows=16)
    take_steps(make_loops(large), (images, labels))
    loops = make_loops(small, accumulate_grad_batches=2)
    take_steps(loops, (images[:8], labels[:8]))
    assert torch.equal(small.theta[0], make_classifier().theta[0])
    take_steps(loops, (images[8:], labels[8:]))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(large.theta, small.theta, strict=True))


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_both_loops_lower_their_loss(schedule):
    loops = make_loops(make_classifier(), lr=0.02, outer_lr=0.02, schedule=schedule)
    first, *_, last = [torch.stack(take_steps(loops, make_batch(0), make_batch(0))) for _ in range(15)]
    assert (last < first - 0.1).all()


@pytest.mark.parametrize("meta", [{"order": 1}, {"order": 2}, {"schedule": "joint"}])
def test_each_loop_has_its_own_loss(meta):
    losses = {}
    for number in (1, 2):
        model = make_classifier()
        loops = make_loops(model, lr=0.0, outer_lr=0.0, weight_decay=0.0, **meta)
        if number == 2:
            loops.outer_loss = lambda logits, labels: 2 * F.cross_entropy(logits, labels)
        values = take_steps(loops, make_batch(0), make_batch(1))
        losses[number] = [x.item() for x in values], model.theta[0].grad.clone(), model.adapted.gamma[0].grad.clone()
    assert losses[2][0] == pytest.approx([losses[1][0][0], 2 * losses[1][0][1]])
    assert torch.allclose(losses[2][1], losses[1][1])
    assert torch.allclose(losses[2][2], 2 * losses[1][2]) and losses[1][2].abs().max() > 0


def test_loss_that_is_not_finite_changes_no_parameter():
    model = make_classifier()
    before = deepcopy(model.theta)
    loops = make_loops(model)
    loops.loss = lambda logits, labels: logits.sum() * torch.nan
    with pytest.raises(NonFiniteLossError, match=mentions("inner loop", "nan")):
        take_steps(loops, make_batch(0))
    assert all(torch.equal(a, b) for a, b in zip(model.theta, before, strict=True))


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_loss_scaling_does_not_change_steps(schedule):
    models = make_classifier(), make_classifier()
    for model, scaled in zip(models, (False, True), strict=True):
        loops = make_loops(model, scale_losses=scaled, max_grad_norm=0.5, accumulate_grad_batches=2, schedule=schedule)
        losses = [take_steps(loops, make_batch(number), make_batch(9) if number % 2 else None) for number in range(4)]
        assert losses[-1][1] < 10  # the returned loss is not scaled
    assert loops.inner_scaler.get_scale() == 2.0**16 and loops.skipped_steps == 0
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_an_overflow_skips_the_step_of_its_loop_and_halves_its_scale(schedule):
    model = make_classifier()
    loops = make_loops(model, lr=1e-4, scale_losses=True, schedule=schedule)
    loops.outer_scaler = GradScaler("cpu", init_scale=2.0**127)
    loops.loss = loops.outer_loss = lambda logits, labels: 1000 * F.cross_entropy(logits, labels)
    gamma, theta = model.adapted.gamma[0].detach().clone(), model.theta[0].detach().clone()
    take_steps(loops, make_batch(0), make_batch(1))
    assert torch.equal(model.adapted.gamma[0], gamma) and not torch.equal(model.theta[0], theta)
    assert [scaler.get_scale() for scaler in (loops.inner_scaler, loops.outer_scaler)] == [2.0**16, 2.0**126]
    assert loops.skipped_steps == 1


@pytest.mark.slow
def test_training_in_float16_lowers_both_losses():
    loops = make_loops(make_classifier(), lr=0.02, outer_lr=0.02, scale_losses=True)
    with torch.autocast("cpu", torch.float16):
        first, *_, last = [torch.stack(take_steps(loops, make_batch(0), make_batch(0))) for _ in range(15)]
    assert (last < first - 0.1).all()
