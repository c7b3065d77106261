"""A ViT-S converted to a ViT-B/16 that computes the same function."""

from functools import partial

import pytest
import timm
import torch

from tools.maintenance.widen_bundle import NAME, widen_state

SMALL = "vit_small_patch14_dinov2.lvd142m"


def small_vit(**options):
    torch.manual_seed(0)
    vit = timm.create_model(
        SMALL, pretrained=False, num_classes=0, depth=2, img_size=28, **options
    ).eval()
    for name, parameter in vit.named_parameters():
        torch.nn.init.normal_(
            parameter, 1.0 if "gamma" in name or "norm" in name else 0.0, 0.05
        )
    return vit


@pytest.mark.slow
@torch.no_grad()
def test_tokens_are_two_copies_of_the_small_tokens(monkeypatch):
    # of twelve equal blocks
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, depth=3))
    vit = small_vit()
    large = timm.create_model(NAME, pretrained=False, num_classes=0, img_size=32).eval()
    large.load_state_dict(widen_state(vit, noise=0.3))
    tokens = torch.randn(2, 5, 384)
    small_tokens = tokens
    large_tokens = torch.cat([tokens, tokens], -1)
    for block in vit.blocks:
        small_tokens = block(small_tokens)
    for block in large.blocks:
        large_tokens = block(large_tokens)
    torch.testing.assert_close(
        large.norm(large_tokens),
        torch.cat([vit.norm(small_tokens)] * 2, -1),
        atol=1e-4,
        rtol=0,
    )
    torch.testing.assert_close(large.pos_embed, torch.cat([vit.pos_embed] * 2, -1))
    first = large.blocks[0].mlp.fc1.weight[:, :384]
    second = large.blocks[0].mlp.fc1.weight[:, 384:]
    assert (first - second).std() > 0.3 * vit.blocks[0].mlp.fc1.weight.std()
