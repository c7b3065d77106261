"""Networks without stages or transformer blocks."""

import pytest
import timm
import torch
from timm.models.vision_transformer import ParallelScalingBlock
from torch import nn

from rsft.peft import (
    Adapter,
    AdaptFormer,
    LoRA,
    attach,
)
from rsft.peft.model.stages import ViTStages
from tests.helpers.peft_models import (
    NETWORKS,
    method_id,
    tiny_vit,
    with_random_adapter,
)

NETWORK = pytest.mark.parametrize("name", NETWORKS)


@pytest.mark.parametrize("method", [LoRA(), Adapter(), AdaptFormer()], ids=method_id)
def test_blocks_of_another_kind(method):
    with pytest.raises(ValueError, match=r"blocks\.0"):
        attach(tiny_vit(block_fn=ParallelScalingBlock), method)


def test_network_without_transformer_blocks():
    with pytest.raises(ValueError, match="no blocks"):
        attach(nn.Linear(2, 2), LoRA())


def test_a_network_without_stages(images):
    """BEiT passes relative positions from block to block."""
    torch.manual_seed(0)
    beit = timm.models.beit.Beit(
        img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=0
    )
    before = beit.eval()(images)
    adapted = attach(beit, LoRA(rank=2), learn_scales=True)
    assert torch.allclose(adapted(images), before, atol=1e-5)
    with_random_adapter(adapted)
    assert (
        torch.allclose(adapted(images), beit(images), atol=1e-6)
        and adapted.run_frozen_prefix(images) is images
    )
    with pytest.raises(ValueError, match="checkpointed"):
        adapted.checkpointing = True
    expected = torch.autograd.grad(adapted(images[3:]).square().sum(), adapted.gamma)
    with adapted.joint(3):
        loss = adapted(images).square().sum()
    assert torch.allclose(
        torch.autograd.grad(loss, adapted.gamma)[0], expected[0], atol=1e-5
    )


def test_a_name_of_a_block_is_its_stage():
    stages = ViTStages(tiny_vit(depth=3))
    assert stages.depth == 3
    assert [stages.stage_of(f"blocks.{n}.attn.qkv") for n in range(3)] == [0, 1, 2]
    assert stages.stage_of("norm.weight") == 3
