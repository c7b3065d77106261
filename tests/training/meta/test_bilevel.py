from copy import deepcopy

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F

from rsft.errors import RsftError
from rsft.models.classifier import Classifier, CosineHead
from rsft.peft import LoRA, attach
from rsft.recipe.schema import Meta
from rsft.training.meta.bilevel import BiLevel, only
from rsft.training.precision import loss_scalers


def classifier(learned=True):
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0).eval()
    adapted = attach(vit, LoRA(rank=2), modulated=True)
    if learned:
        for parameter in adapted.theta:
            nn.init.normal_(parameter, std=0.1)
    return Classifier(adapted, CosineHead(24, 3, scale=10.0), "token")


def batch(seed, rows=8):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, 16, 16, generator=draw), torch.randint(0, 3, (rows,), generator=draw)


def loops(model, lr=0.1, meta_lr=0.1, accumulate=1, scalers=None, clip_norm=None, **meta):
    inner = torch.optim.SGD(model.theta, lr=lr, momentum=0.9)
    outer = torch.optim.Adam(model.adapted.gamma, lr=meta_lr)
    options = {"accumulate": accumulate, "scalers": scalers, "clip_norm": clip_norm}
    return BiLevel(model, F.cross_entropy, inner, outer, Meta(**meta), **options)


def state(model, *optimizers):
    tensors = [parameter.detach().clone() for parameter in model.parameters()]
    moments = [each for o in optimizers for s in o.state.values() for each in s.values() if torch.is_tensor(each)]
    return [*tensors, *(each.clone() for each in moments), torch.get_rng_state()]


def test_the_parameters_of_the_loops_are_disjoint():
    both = loops(classifier())
    groups = [{id(p) for g in o.param_groups for p in g["params"]} for o in (both.inner, both.outer)]
    assert groups[0] and groups[1] and not groups[0] & groups[1]


def test_inner_steps_leave_gamma_and_outer_steps_leave_theta():
    model = classifier()
    both = loops(model)
    gamma, theta = model.adapted.gamma[0], model.theta
    before = gamma.detach().clone()
    both.step(batch(0))
    assert torch.equal(gamma, before)
    between = deepcopy(theta)
    both._outer_step(batch(0), batch(1))
    assert not torch.equal(gamma, before)
    assert all(torch.equal(a, b) for a, b in zip(theta, between, strict=True))


@pytest.mark.parametrize("order", [1, 2])
def test_an_outer_step_at_rate_zero_changes_nothing(order):
    model = classifier()
    both = loops(model, meta_lr=0.0, order=order)
    both.step(batch(0))  # momentum
    before = state(model, both.inner)
    both._outer_step(batch(0), batch(1))
    assert all(torch.equal(a, b) for a, b in zip(before, state(model, both.inner), strict=True))


def test_the_scale_counts_in_evaluation():
    model = classifier().eval()
    before = model(batch(0)[0])
    model.adapted.gamma[0].data += 1
    assert not torch.allclose(before, model(batch(0)[0]), atol=1e-3)


def test_gamma_has_no_gradient_before_anything_is_learned():
    model = classifier(learned=False)
    loops(model, weight_decay=0.0)._outer_step(batch(0), batch(1))
    assert model.adapted.gamma[0].grad.abs().max() == 0


def test_joint_gradients_are_those_of_two_passes():
    apart, at_once = classifier(), classifier()
    two, one = loops(apart, lr=0.0, meta_lr=0.0), loops(at_once, lr=0.0, meta_lr=0.0, schedule="joint")
    losses = [two._inner_step(batch(0)), two._outer_step(batch(0), batch(1, rows=3))]
    assert torch.stack(one.step(batch(0), batch(1, rows=3))).tolist() == pytest.approx(torch.stack(losses).tolist())
    for a, b in zip([*apart.theta, *apart.adapted.gamma], [*at_once.theta, *at_once.adapted.gamma], strict=True):
        assert a.grad.abs().max() > 0
        assert torch.allclose(a.grad, b.grad, atol=1e-5)


def test_accumulated_batches_are_one_large_batch():
    large, small = classifier(), classifier()
    images, labels = batch(0, rows=16)
    loops(large).step((images, labels))
    halves = loops(small, accumulate=2)
    halves.step((images[:8], labels[:8]))
    assert torch.equal(small.theta[0], classifier().theta[0])
    halves.step((images[8:], labels[8:]))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(large.theta, small.theta, strict=True))


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_both_loops_lower_their_loss(schedule):
    both = loops(classifier(), lr=0.02, meta_lr=0.02, schedule=schedule)
    first, *_, last = [torch.stack(both.step(batch(0), batch(0))) for _ in range(15)]
    assert (last < first - 0.1).all()


def test_a_loss_that_is_not_finite_moves_nothing():
    model = classifier()
    before = deepcopy(model.theta)
    both = loops(model)
    both.loss = lambda logits, labels: logits.sum() * torch.nan
    with pytest.raises(RsftError, match="the loss of the inner loop is nan"):
        both.step(batch(0))
    assert all(torch.equal(a, b) for a, b in zip(model.theta, before, strict=True))


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_scaled_losses_move_nothing_else(schedule):
    models = classifier(), classifier()
    scalers = loss_scalers("fp16", "cpu")
    for model, wish in zip(models, (None, scalers), strict=True):
        both = loops(model, scalers=wish, clip_norm=0.5, accumulate=2, schedule=schedule)
        losses = [both.step(batch(number), batch(9) if number % 2 else None) for number in range(4)]
        assert losses[-1][1] < 10  # as it is, not scaled
    assert scalers[0].get_scale() == 2.0**16 and both.skipped == 0
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_an_overflow_skips_the_step_of_its_loop_and_halves_its_scale(schedule):
    model = classifier()
    scalers = GradScaler("cpu"), GradScaler("cpu", init_scale=2.0**127)
    both = loops(model, lr=1e-4, scalers=scalers, schedule=schedule)
    both.loss = lambda logits, labels: 1000 * F.cross_entropy(logits, labels)
    gamma, theta = model.adapted.gamma[0].detach().clone(), model.theta[0].detach().clone()
    both.step(batch(0), batch(1))
    assert torch.equal(model.adapted.gamma[0], gamma) and not torch.equal(model.theta[0], theta)
    assert [scaler.get_scale() for scaler in scalers] == [2.0**16, 2.0**126]
    assert both.skipped == 1


def test_steps_in_float16():
    model = classifier()
    both = loops(model, lr=0.02, meta_lr=0.02, scalers=loss_scalers("fp16", "cpu"))
    with torch.autocast("cpu", torch.float16):
        first, *_, last = [torch.stack(both.step(batch(0), batch(0))) for _ in range(15)]
    assert (last < first - 0.1).all()


def test_only():
    trained, frozen = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    with only([trained], [frozen]):
        (trained * frozen).backward()
    assert trained.grad is not None and frozen.grad is None
    assert frozen.requires_grad
