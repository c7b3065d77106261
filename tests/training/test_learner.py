from copy import deepcopy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rsft.models.devices import copy_batch
from rsft.peft import AdaptedModel
from rsft.training.fit import train_on_batch


def test_outer_steps_are_due_after_the_warm_up_in_every_second_step(make_learner):
    learner = make_learner("train.accumulate_grad_batches=1")
    due = [
        [
            learner.prepare_step(epoch, index).outer_batch is not None
            for index in range(4)
        ]
        for epoch in range(2)
    ]
    assert due == [[False] * 4, [False, True, False, True]]


def test_accumulated_batches_count_as_one_step(make_learner):
    learner = make_learner(
        "train.accumulate_grad_batches=2", "meta.warmup=0", "data.augment=none"
    )
    assert [
        learner.prepare_step(0, index).outer_batch is not None for index in range(4)
    ] == [
        False,
        False,
        False,
        True,
    ]


def test_learning_rates_and_losses_follow_their_schedules(make_learner):
    overrides = (
        "loss.name=ldam",
        "loss.drw_start=0.5",
        "meta.decay=cosine",
        "meta.lr=0.5",
    )
    learner = make_learner("train.epochs=10", *overrides)
    rates = []
    for epoch in (0, 5, 9):
        objective = learner.prepare_step(epoch, 0)
        assert objective.inner is learner.loss.inner.at(epoch / 10)
        assert objective.outer is learner.loss.outer.at(epoch / 10)
        rates.append(
            [optimizer.param_groups[0]["lr"] for optimizer in learner.loops.optimizers]
        )
    inner, outer = np.array(rates).T
    cosine = 0.5 * (1 + np.cos(np.pi * np.array([0, 0.5, 0.9])))
    np.testing.assert_allclose(inner, 0.02 * (8 / 128) ** 0.5 * cosine, rtol=1e-6)
    np.testing.assert_allclose(outer, 0.5 * cosine, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["inner", "outer"])
def test_the_loss_of_each_loop_has_the_prior_of_its_sampler(make_learner, loop):
    key, other = (
        ("train.sampler", "meta.sampling")
        if loop == "inner"
        else ("meta.sampling", "train.sampler")
    )
    natural = make_learner("train.sampler=natural", "meta.sampling=random").loss
    learner = make_learner(f"{key}=class-balanced", f"{other}=natural")
    loss = learner.loss
    count = learner.classifier.head.weight.shape[0]
    logits = torch.randn(6, count, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(6) % count
    plain = F.cross_entropy(logits, labels)
    adjusted = natural.inner(logits, labels)
    assert not torch.isclose(plain, adjusted)
    changed, kept = (
        (loss.inner, loss.outer) if loop == "inner" else (loss.outer, loss.inner)
    )
    assert torch.isclose(changed(logits, labels), plain)
    assert torch.equal(kept(logits, labels), adjusted)
    assert torch.equal(natural.outer(logits, labels), adjusted)
    assert torch.equal(learner.loss.validation(logits, labels), adjusted)


def test_dropout_depends_on_seed_epoch_and_batch(make_learner):
    learner = make_learner()
    draws = {}
    for position in ((0, 0), (0, 1), (1, 0), (0, 0)):
        learner.prepare_step(*position)
        draw = torch.rand(1).item()
        assert draws.setdefault(position, draw) == draw
    assert len(set(draws.values())) == 3


@pytest.mark.slow
def test_a_restored_state_continues_within_an_accumulated_step(make_learner):
    overrides = ("train.accumulate_grad_batches=2", "meta.warmup=0", "peft.dropout=0.3")
    first = make_learner(*overrides)
    second = make_learner(*overrides)
    batches = [copy_batch(batch, "cpu") for batch in first.batches.training_loader(0)]
    for index in range(3):
        train_on_batch(first, batches[index], 0, index)
    state = deepcopy(first.state_dict())  # as from a file
    assert (
        state["gradients"] is not None
        and state["steps"] == 3
        and len(state["losses"][0]) == 3
    )
    second.load_state_dict(state)
    for learner in (first, second):
        train_on_batch(learner, batches[3], 0, 3)
    assert first.epoch_row(0) == second.epoch_row(0)
    learned = first.classifier.learned_state()
    others = second.classifier.learned_state()
    assert all(torch.equal(learned[key], others[key]) for key in learned)
    # the losses of an epoch are reset
    assert np.isnan(first.epoch_row(0)["train_loss"])


def test_restored_losses_are_on_the_device_of_the_network(make_learner):
    """The next checkpoint stacks them with the losses of new steps."""
    learner = make_learner()
    state = learner.state_dict() | {"losses": [torch.ones(2), None]}
    learner.device = torch.device("meta")
    learner.load_state_dict(state)
    assert [loss.device.type for loss in learner.losses[0]] == ["meta", "meta"]


@pytest.mark.parametrize("compiled", [False, True])
def test_the_recipe_compiles_the_blocks(make_learner, monkeypatch, compiled):
    calls = []
    monkeypatch.setattr(
        AdaptedModel, "compile_blocks", lambda adapted: calls.append(adapted)
    )
    learner = make_learner(f"train.compile={str(compiled).lower()}")
    assert calls == [learner.classifier.adapted] * compiled


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_matrix_products_have_the_precision(make_learner, precision, dtype):
    with make_learner(f"train.precision={precision}").autocast():
        assert (torch.eye(2) @ torch.eye(2)).dtype == dtype
