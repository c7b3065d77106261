"""Outputs of earlier blocks, of every kind of transformer."""

import pytest
import torch

from rsft.peft import Adapter, CompositeMethod, LoRA, attach
from rsft.peft.model.block_outputs import record_block_outputs
from tests.helpers.closeness import close
from tests.helpers.peft_models import (
    NETWORKS,
    with_random_adapter,
)

NETWORK = pytest.mark.parametrize("name", NETWORKS)
METHOD = CompositeMethod((LoRA(rank=2, positions="qkvo2"), Adapter(dim=2)))


@NETWORK
@pytest.mark.parametrize("checkpointing", [False, True])
def test_outputs_of_earlier_blocks(name, images, checkpointing):
    """They are those that a hook sees, and their rows give the gradients of a joint
    pass."""
    adapted = with_random_adapter(
        attach(
            NETWORKS[name](),
            METHOD,
            learn_scales=True,
        )
    )
    adapted.output_blocks = [1]
    theta = adapted.theta
    gamma = adapted.gamma
    with record_block_outputs(adapted.vit, [1]) as recorded:
        final = adapted.vit.forward_features(images)

    def run(batch):
        return adapted.run_suffix_with_blocks(adapted.run_frozen_prefix(batch))

    for tokens, expected_tokens in zip(run(images), (final, *recorded), strict=True):
        assert torch.allclose(tokens, expected_tokens, atol=1e-5)
    expected = torch.autograd.grad(
        sum(tokens.square().sum() for tokens in run(images[:3])), theta
    )
    expected += torch.autograd.grad(
        sum(tokens.square().sum() for tokens in run(images[3:])), gamma
    )
    adapted.checkpointing = checkpointing
    with adapted.joint(3):
        loss = sum(tokens.square().sum() for tokens in run(images))
    gradients = torch.autograd.grad(loss, [*theta, *gamma])
    assert close(gradients, expected)
