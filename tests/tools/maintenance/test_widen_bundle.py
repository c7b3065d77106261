"""A small transformer as a large one of the same function."""

from __future__ import annotations

import pytest
import timm
import torch

from rsft.errors import RequestError
from tools.maintenance.widen_bundle import NAME, widened

SMALL = "vit_small_patch14_dinov2.lvd142m"


def small(**options):
    torch.manual_seed(0)
    made = timm.create_model(SMALL, pretrained=False, num_classes=0, depth=2, img_size=28, **options).eval()
    for name, parameter in made.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "gamma" in name or "norm" in name else 0.0, 0.05)
    return made


@torch.no_grad()
def test_tokens_are_those_of_the_small_one_twice():
    vit = small()
    big = timm.create_model(NAME, pretrained=False, num_classes=0, img_size=32).eval()
    big.load_state_dict(widened(vit, noise=0.3))
    tokens = torch.randn(2, 5, 384)
    wanted, found = tokens, torch.cat([tokens, tokens], -1)
    for block in vit.blocks:
        wanted = block(wanted)
    for block in big.blocks:
        found = block(found)
    torch.testing.assert_close(big.norm(found), torch.cat([vit.norm(wanted)] * 2, -1), atol=1e-4, rtol=0)
    torch.testing.assert_close(big.pos_embed, torch.cat([vit.pos_embed] * 2, -1))
    first, second = big.blocks[0].mlp.fc1.weight[:, :384], big.blocks[0].mlp.fc1.weight[:, 384:]
    assert (first - second).std() > 0.3 * vit.blocks[0].mlp.fc1.weight.std()


def test_another_width_is_refused():
    with pytest.raises(RequestError, match="name a ViT-S"):
        widened(timm.create_model("vit_tiny_patch16_224", num_classes=0), 0.0)
