"""Optimizers, groups of parameters, and learning rates."""

import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.models.classifier import Classifier, CosineHead
from rsft.peft import METHODS, attach
from rsft.recipe.schema import TrainSection
from rsft.training.optim.optimizers import (
    base_lr,
    build_inner_optimizer,
    is_fused,
    lr_factor,
    parameter_groups,
)


def classifier(method="lora", head=None, modulated=False, **keys):
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0
    )
    adapted = attach(vit, METHODS[method](**keys), learn_scales=modulated)
    return Classifier(adapted, head or CosineHead(24, 3, 25.0), "token")


@pytest.mark.parametrize(
    ("method", "keys", "decayed", "spared"),
    [
        ("lora", {"positions": "q"}, 2 * 2, 0),
        ("adaptformer", {"scale": "learnable"}, 2 * 2, 2 * 5),
        ("vpt-deep", {}, 0, 2),
        ("bitfit", {"blocks": "last:1"}, 0, 6),
        ("ssf", {"blocks": "last:1"}, 0, 12),
    ],
)
def test_parameters_without_weight_decay(method, keys, decayed, spared):
    model = classifier(method, **keys)
    groups = parameter_groups(model, TrainSection(epochs=1, decay_all=False))
    sizes = {group["weight_decay"]: len(group["params"]) for group in groups}
    # the head's weight decays
    assert sizes == {5e-4: decayed + 1} | ({0.0: spared} if spared else {})
    (everything,) = parameter_groups(model, TrainSection(epochs=1))
    assert [id(p) for p in everything["params"]] == [id(p) for p in model.theta]


@pytest.mark.parametrize("decay_all", [True, False])
def test_the_head_has_a_learning_rate_of_its_own(decay_all):
    model = classifier(head=nn.Linear(24, 3))
    train = TrainSection(
        epochs=1, lr=0.1, head_lr=0.4, batch_size=32, decay_all=decay_all
    )
    rates = {
        id(p): group["lr"]
        for group in parameter_groups(model, train)
        for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates.pop(id(parameter)) == pytest.approx(
                0.2 if name.startswith("head.") else 0.05
            )
    assert not rates


def test_adamw():
    train = TrainSection(epochs=1, optimizer="adamw", lr=3e-3, weight_decay=0.1)
    optimizer = build_inner_optimizer(classifier(), train)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [
        (group["lr"], group["weight_decay"]) for group in optimizer.param_groups
    ] == [(3e-3, 0.1)]


def test_one_operator_updates_all_parameters_on_a_gpu_alone():
    assert is_fused(torch.device("cuda", 0)) and is_fused(torch.device("cpu")) is None


def test_optimizers():
    model = classifier(head=nn.Linear(24, 3), modulated=True)
    inner = build_inner_optimizer(
        model, TrainSection(epochs=1, lr=0.1, batch_size=32, decay_all=False)
    )
    groups = [
        (len(group["params"]), group["weight_decay"], group["lr"])
        for group in inner.param_groups
    ]
    assert groups == [(25, 5e-4, 0.05), (1, 0.0, 0.05)]


@pytest.mark.parametrize(("batch", "accumulate"), [(32, 1), (16, 2)])
def test_lr_scales_with_the_root_of_the_chips_per_step(batch, accumulate):
    train = TrainSection(
        epochs=1, lr=0.1, batch_size=batch, accumulate_grad_batches=accumulate
    )
    assert base_lr(train) == pytest.approx(0.05)


def test_warm_up_and_cosine():
    shares = [
        lr_factor(TrainSection(epochs=10, warmup_epochs=3.0), step, 10)
        for step in range(11)
    ]
    assert shares[:4] == [0.25, 0.5, 0.75, 1.0]
    assert shares[3:] == pytest.approx(
        [(1 + math.cos(math.pi * k / 7)) / 2 for k in range(8)]
    )


def test_constant():
    train = TrainSection(epochs=4, warmup_epochs=1.0, schedule="constant")
    assert [lr_factor(train, step, 4) for step in range(4)] == [0.5, 1, 1, 1]


def test_warm_up_of_the_whole_training():
    assert [
        lr_factor(TrainSection(epochs=1, warmup_epochs=2.0), step, 2)
        for step in range(2)
    ] == [0.2, 0.4]
