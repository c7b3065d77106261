"""Steps in function space: the speed of a module does not depend on its scale."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional as F

from rsft.models.classifier import Classifier, CosineHead
from rsft.peft import METHODS, attach
from rsft.recipe.schema import MetaSection, TrainSection
from rsft.training.fit import take_steps
from rsft.training.meta.bilevel import BiLevelLoop
from rsft.training.objective import Objective
from rsft.training.optim.optimizers import build_inner_optimizer

IMAGES = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(7))


def make_batch(seed, rows=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, 16, 16, generator=generator), torch.randint(
        0, 3, (rows,), generator=generator
    )


def outputs_by_step(
    scale,
    method="lora",
    schedule="alternating",
    dtype=torch.float64,
    **train,
):
    """Logits of fixed images after every inner step, in float64 so that rounding does
    not hide a difference."""
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0
    ).eval()
    method, _, modulator = method.partition(", ")
    keys = {"dim": 4} if method.startswith("adap") else {"rank": 2}
    keys |= {"modulator": modulator} if modulator else {}
    adapted = attach(
        vit, METHODS[method](**keys), learn_scales=True, init_scale=scale
    ).double()
    model = Classifier(adapted, CosineHead(24, 3, scale=10.0).double(), "token")
    section = TrainSection(
        epochs=1, batch_size=8, **({"lr": 0.5, "weight_decay": 0.01} | train)
    )
    meta = MetaSection(scale_invariant_steps=True, lr=1e-9, schedule=schedule)
    inner = build_inner_optimizer(model, section)
    outer = torch.optim.Adam(adapted.gamma, lr=0.0)
    loops = BiLevelLoop(model, inner, outer, meta, section)
    outputs = []
    for step in range(8):
        images, labels = make_batch(step)
        outer_images, outer_labels = make_batch(100 + step)
        outer_batch = (outer_images.double(), outer_labels) if step % 2 else None
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float64):
            objective = Objective(
                F.cross_entropy, F.cross_entropy, outer_batch=outer_batch
            )
            take_steps(loops, (images.double(), labels), objective)
        with torch.no_grad():
            outputs.append(model(IMAGES.double()))
    return torch.stack(outputs)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    "method",
    ["lora", "lotr", "adapter", "adaptformer", "lora, feature", "adapter, feature"],
)
def test_two_starts_give_the_same_function_at_every_step(method, optimizer):
    train = {"optimizer": optimizer, "lr": 0.5 if optimizer == "sgd" else 0.01}
    small = outputs_by_step(0.25, method, **train)
    large = outputs_by_step(4.0, method, **train)
    assert (small[-1] - small[0]).abs().max() > 0.05  # the function moves
    # AdamW adds eps to the root of the second moment, which is not in function space
    # for a gradient near 0
    torch.testing.assert_close(
        small, large, rtol=0, atol=1e-9 if optimizer == "sgd" else 1e-4
    )


@pytest.mark.parametrize(
    "train",
    [
        {"max_grad_norm": 0.3},
        {"accumulate_grad_batches": 2},
        {"schedule": "joint"},
        {"momentum": 0.0, "decay_all": False},
        {"head_lr": 0.1},
        {"precision": "fp16"},
    ],
)
def test_it_holds_with_clipping_accumulation_loss_scaling_and_both_schedules(train):
    small = outputs_by_step(0.25, **train)
    large = outputs_by_step(4.0, **train)
    torch.testing.assert_close(small, large, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_it_holds_in_mixed_precision_up_to_rounding():
    bf16 = {"dtype": torch.bfloat16, "max_grad_norm": 1.0}
    small = outputs_by_step(0.25, **bf16)
    large = outputs_by_step(4.0, **bf16)
    assert (small[-1] - small[0]).abs().max() > 0.05
    assert (small - large).abs().max() < 0.1 * (small[-1] - small[0]).abs().max()


def test_a_site_that_is_off_stays_finite():
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0
    ).eval()
    adapted = attach(vit, METHODS["lora"](rank=2), learn_scales=True)
    adapted.modulator.set_scales({"blocks.0.*": 0.0})
    adapted(IMAGES).sum().backward()
    before = [parameter.detach().clone() for parameter in adapted.theta]
    with adapted.in_function_space():
        assert all(parameter.grad.isfinite().all() for parameter in adapted.theta)
    assert all(torch.equal(*pair) for pair in zip(adapted.theta, before, strict=True))
