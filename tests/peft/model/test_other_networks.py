"""Networks of timm that are no plain ViT: a method works, or is refused when it is
attached, with the reason."""

import pytest
import timm
import torch

from rsft.peft import METHODS, attach
from tests.helpers.messages import mentions
from tests.helpers.peft_models import randomize, with_random_adapter

_TINY = {"depth": 2, "embed_dim": 24, "num_heads": 2, "num_classes": 0}
NETWORKS = {
    "beit_base_patch16_224": (32, _TINY),
    "beitv2_base_patch16_224": (32, _TINY),
    "vit_relpos_small_patch16_224": (32, _TINY),
    "vit_srelpos_small_patch16_224": (32, _TINY),
    "samvit_base_patch16": (64, _TINY | {"global_attn_indexes": (1,)}),
    "hiera_tiny_224": (
        64,
        {
            "embed_dim": 24,
            "stages": (1, 1),
            "q_pool": 1,
            "mask_unit_size": (4, 4),
            "num_classes": 0,
        },
    ),
    "xcit_nano_12_p16_224": (64, {"depth": 2, "embed_dim": 32, "num_classes": 0}),
    "naflexvit_base_patch16_gap": (32, _TINY),
}
"""Name -> side of the image, and arguments for a small network."""

REFUSED = {
    "beit_base_patch16_224": (
        r"Beit takes no prompts: blocks\.0\.attn has a bias for each pair of its own"
        r" tokens"
    ),
    "beitv2_base_patch16_224": (
        r"Beit takes no prompts: blocks\.0\.attn has a bias for each pair of its own"
        r" tokens"
    ),
    "vit_relpos_small_patch16_224": (
        r"takes no prompts: blocks\.0\.attn\.rel_pos has a bias for each pair"
    ),
    "vit_srelpos_small_patch16_224": (
        "takes no prompts: shared_rel_pos has a bias for each pair of its own tokens"
    ),
    "samvit_base_patch16": (
        "VisionTransformerSAM takes no prompts: it has no num_prefix_tokens"
    ),
    "hiera_tiny_224": "Hiera takes no prompts: it has no embed_dim",
    "xcit_nano_12_p16_224": (
        "Xcit takes no prompts: its blocks need H and W of the token grid"
    ),
    "naflexvit_base_patch16_gap": (
        r"NaFlexVit takes no prompts: it has no patch_embed\.patch_size"
    ),
}


def build(name):
    size, options = NETWORKS[name]
    torch.manual_seed(0)
    sized = {} if "naflex" in name else {"img_size": size}
    return randomize(timm.create_model(name, **sized, **options)), torch.randn(
        2, 3, size, size
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", METHODS.names())
def test_a_method_works_or_is_refused_with_the_reason(name, method):
    vit, images = build(name)
    before = vit(images)
    if method.startswith("vpt"):
        with pytest.raises(ValueError, match=REFUSED[name]):
            attach(vit, METHODS[method]())
        return
    if (name, method) == ("hiera_tiny_224", "lotr"):
        with pytest.raises(ValueError, match="widths must be equal"):
            attach(vit, METHODS[method]())
        return
    adapted = attach(vit, METHODS[method]())
    torch.testing.assert_close(adapted(images), before, atol=1e-5, rtol=1e-5)
    trained = with_random_adapter(adapted)(images)
    if adapted.theta:
        gradients = torch.autograd.grad(trained.sum(), adapted.theta, allow_unused=True)
        assert any(gradient is not None and gradient.any() for gradient in gradients)
        assert not torch.allclose(trained, before, atol=1e-3)
    torch.testing.assert_close(adapted.merge()(images), trained, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS.names())
def test_two_sequences_of_tokens_are_refused(method):
    with torch.device("meta"):
        crossvit = timm.create_model("crossvit_9_240")
    with pytest.raises(
        ValueError, match=mentions("CrossVit", "2 sequences", "[128, 256]")
    ):
        attach(crossvit, METHODS[method]())
