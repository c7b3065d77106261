"""Which blocks run without a graph, and hooks of the user."""

import torch

from rsft.peft import (
    LoRA,
    attach,
)
from tests.helpers.peft_models import with_random_adapter


def test_user_hooks_are_called(vit, images):
    adapted = with_random_adapter(attach(vit, LoRA(rank=2)))
    before = adapted(images)
    shapes = []
    vit.blocks[1].mlp.register_forward_hook(
        lambda module, args, output: shapes.append(output.shape)
    )
    assert torch.allclose(adapted(images), before, atol=1e-5)
    assert shapes == [(4, 17, 24)]


def test_no_graph_below_the_first_site(vit, images):
    adapted = attach(vit, LoRA(rank=2, positions="2", blocks="last:1"))
    prefix = adapted.run_frozen_prefix(images)
    assert adapted.first_adapted_stage == 2 and not prefix.requires_grad
    assert torch.allclose(
        # timm's own step between patches and blocks, which it does not export
        prefix,
        vit.blocks[:2](vit._pos_embed(vit.patch_embed(images))),
        atol=1e-5,
    )


def test_the_prefix_ends_after_the_first_output_block(vit, images):
    adapted = with_random_adapter(attach(vit, LoRA(rank=2, blocks="last:1")))
    assert (adapted.output_blocks, adapted.prefix_end) == ((), 2)
    plain = adapted.forward_features(images)
    adapted.output_blocks = [1, 0]
    assert (adapted.output_blocks, adapted.prefix_end, adapted.first_adapted_stage) == (
        (0, 1),
        1,
        2,
    )
    prefix = adapted.run_frozen_prefix(images)
    final, first, second = adapted.run_suffix_with_blocks(prefix)
    assert torch.equal(first, prefix) and not first.requires_grad
    assert torch.allclose(second, vit.blocks[1](first), atol=1e-5) and torch.allclose(
        final, plain, atol=1e-5
    )


def test_a_second_pass_after_checkpointing_has_all_outputs(vit, images):
    adapted = with_random_adapter(attach(vit, LoRA(rank=2)))
    adapted.checkpointing = True
    before = adapted(images)
    before.sum().backward()
    assert torch.allclose(adapted(images), before, atol=1e-5)
