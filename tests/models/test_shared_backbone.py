"""Several bundles on one backbone, the part below the first adapted block computed once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.errors import RequestError
from rsft.models.averaging import averaged, crops
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Classifier
from rsft.models.shared_backbone import Shared, load_shared
from rsft.peft import Adapter, LoRA, attach
from rsft.recipe.schema import Evaluate

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def classifier(method, seed=0, classes=3):
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=16, patch_size=8, embed_dim=24, depth=4, num_heads=2, num_classes=0).eval()
    adapted = attach(vit, method)
    torch.manual_seed(seed)
    for parameter in adapted.theta:
        nn.init.normal_(parameter, std=0.3)
    return Classifier(adapted, nn.Linear(24, classes), "token").eval()


def runs():
    late = [classifier(LoRA(blocks="last:1"), 1), classifier(LoRA(blocks="last:2"), 2)]
    return [late, [classifier(Adapter(dim=2, blocks="last:2"), 3, classes=5)]]


@torch.no_grad()
def test_each_answers_as_alone_and_the_rest_is_computed_once():
    wanted = [[each.answer(IMAGES) for each in own] for own in runs()]
    shared, seen = Shared(runs(), 16), []
    for own in shared.runs:
        for each in own:
            for block in each.adapted.vit.blocks[:2]:
                block.register_forward_hook(lambda *_: seen.append(1))
    found = shared.answers(IMAGES)
    assert shared.stage == 2 and len(seen) == 2
    for answer, alone in zip(found, (averaged(wanted[0]), wanted[1][0]), strict=True):
        torch.testing.assert_close(answer.logits, alone.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(answer.features, alone.features, atol=1e-5, rtol=0)


@torch.no_grad()
def test_test_time_crops():
    larger = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    wanted = averaged([runs()[1][0].answer(crop) for crop in crops(larger, 16, mirrored=False)])
    found = Shared(runs(), 16, "five-crop").answers(larger)[1]
    torch.testing.assert_close(found.logits, wanted.logits, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_bundles_that_do_not_go_together(run):
    bundle = Bundle.load(run)
    others = {
        "are of two backbones: vit_tiny_patch8_64.simship": replace(bundle, backbone_sha256="0" * 64),
        "their contracts differ in crop, size": replace(
            bundle, contract=bundle.contract.model_copy(update={"crop": 8, "size": 64})
        ),
        "test-time crops": replace(
            bundle, recipe=bundle.recipe.model_copy(update={"evaluate": Evaluate(tta="five-crop")})
        ),
    }
    for told, other in others.items():
        with pytest.raises(RequestError, match=told) as caught:
            load_shared([bundle, other], "cpu")
        assert str(caught.value).count("bars (") == 2
