"""Every kind of timm transformer, with low-rank additions, a bottleneck and prompts."""

import pytest
import torch
from timm.models.vision_transformer import ResPostBlock
from torch import nn
from torch.func import functional_call

from rsft.peft import (
    SSF,
    Adapter,
    AdaptFormer,
    CompositeMethod,
    LoRA,
    VPTDeep,
    attach,
)
from rsft.peft.modules.adapter_module import find_target_layers
from tests.helpers.closeness import close
from tests.helpers.peft_models import (
    NETWORKS,
    tiny_dinov3,
    tiny_eva,
    tiny_vit,
    with_random_adapter,
)

NETWORK = pytest.mark.parametrize("name", NETWORKS)


SEPARATE_SWIGLU = ("SwiGLU", "EVA-02 base", "EVA-02 CLIP")
BY_KERNEL = {name for name in NETWORKS if name != "CaiT"}


def positions_of(name):
    return "qkvo2" if name in SEPARATE_SWIGLU else "qkvo12"


def method_for(name):
    return CompositeMethod((LoRA(rank=2, positions=positions_of(name)), Adapter(dim=2)))


@NETWORK
def test_attach_and_detach(name, images):
    vit = NETWORKS[name]()
    untouched = NETWORKS[name]()
    before = untouched(images)
    adapted = attach(vit, method_for(name), learn_scales=True)
    assert torch.allclose(adapted(images), before, atol=1e-5)
    assert torch.allclose(with_random_adapter(adapted)(images), vit(images), atol=1e-5)
    assert not torch.allclose(adapted(images), before, atol=1e-2)
    tokens = adapted.run_frozen_prefix(images)
    by_parts, *_ = adapted.run_suffix_with_blocks(tokens)
    assert torch.allclose(by_parts[:, 0], adapted(images), atol=1e-5)
    # the same weights elsewhere in memory
    assert torch.allclose(adapted.detach()(images), before, atol=1e-6)


@NETWORK
def test_merged(name, images):
    lora = LoRA(rank=2, positions=positions_of(name))
    adapted = with_random_adapter(attach(NETWORKS[name](), lora, learn_scales=True))
    before = adapted(images)
    torch.testing.assert_close(adapted.merge()(images), before, atol=1e-5, rtol=1e-5)


@NETWORK
@pytest.mark.parametrize("checkpointing", [False, True])
def test_joint(name, images, checkpointing):
    adapted = with_random_adapter(
        attach(NETWORKS[name](), method_for(name), learn_scales=True)
    )
    theta = adapted.theta
    gamma = adapted.gamma
    expected = torch.autograd.grad(adapted(images[:3]).square().sum(), theta)
    expected += torch.autograd.grad(adapted(images[3:]).square().sum(), gamma)
    adapted.checkpointing = checkpointing
    with adapted.joint(3):
        loss = adapted(images).square().sum()
    gradients = torch.autograd.grad(loss, [*theta, *gamma])
    assert close(gradients, expected)


@NETWORK
@pytest.mark.parametrize("checkpointing", [False, True])
def test_outputs_and_gradients_equal_those_of_plain_timm(name, images, checkpointing):
    lora = LoRA(rank=2, positions=positions_of(name))
    adapted = with_random_adapter(attach(NETWORKS[name](), lora, learn_scales=True))
    blocks = range(len(adapted.vit.blocks))
    # whether the kernels run is seen in no output
    assert all(adapted._runner.uses_kernel(index) for index in blocks) == (
        name in BY_KERNEL
    )
    trained = [*adapted.theta, *adapted.gamma]
    adapted.checkpointing = checkpointing
    actual = adapted(images)
    expected = plain_timm(NETWORKS[name](), adapted, images)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    gradients = torch.autograd.grad(actual.square().sum(), trained)
    references = torch.autograd.grad(expected.square().sum(), trained)
    for gradient, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(
            gradient, reference, atol=1e-5 * float(reference.abs().max() + 1), rtol=1e-5
        )


def plain_timm(untouched, adapted, images):
    """Run timm's own network with W + m (A B)^T in the place of W, by plain autograd
    and without the kernels."""
    (module,) = adapted.adapter_modules
    names = {id(layer): path for path, layer in untouched.named_modules()}
    weights = {}
    for site, (layer, rows) in find_target_layers(untouched).items():
        if site in adapted.sites:
            a, b = module.factors(site)
            start, stop, _ = rows.indices(layer.out_features)
            delta = nn.functional.pad(
                module.scale_fns[site]() * (b @ a),
                (0, 0, start, layer.out_features - stop),
            )
            key = f"{names[id(layer)]}.weight"
            weights[key] = weights.get(key, layer.weight.detach()) + delta
    return functional_call(untouched, weights, (images,))


@NETWORK
def test_tokens_of_the_prefix_replace_the_images(name, images):
    adapted = with_random_adapter(
        attach(NETWORKS[name](), LoRA(rank=2, positions="qv", blocks="last:1"))
    )
    tokens = adapted.run_frozen_prefix(images)
    assert tokens.ndim == 3 and adapted.first_adapted_stage == 2
    expected = adapted.vit.forward_features(images)
    suffix, *_ = adapted.run_suffix_with_blocks(tokens)
    assert torch.allclose(suffix, expected, atol=1e-5)
    class_tokens, *_ = adapted.run_suffix_with_blocks(tokens, class_token_only=True)
    assert torch.allclose(class_tokens, expected[:, :1], atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 32), (48, 48), (16, 64), (64, 16)], ids=str)
def test_rotary_embeddings_follow_the_size_of_the_images(shape):
    """Only images of the network's own size are replaced by tokens, which do not tell
    the shape of their grid."""
    images = torch.randn(2, 3, *shape)
    adapted = with_random_adapter(attach(tiny_dinov3(), LoRA(rank=2, blocks="last:1")))
    assert adapted.run_frozen_prefix(images).ndim == (3 if shape == (32, 32) else 4)
    expected = adapted.vit.forward_features(images)
    assert expected.shape[1] == 5 + shape[0] * shape[1] // 64
    assert torch.allclose(adapted.forward_features(images), expected, atol=1e-5)
    assert torch.allclose(
        adapted.forward_features(images, class_token_only=True),
        expected[:, :1],
        atol=1e-5,
    )


@NETWORK
def test_prompts_and_shifts(name, images):
    vit = NETWORKS[name]()
    untouched = NETWORKS[name]()
    adapted = with_random_adapter(
        attach(vit, CompositeMethod((VPTDeep(prompts=2), SSF())))
    )
    tokens = adapted.forward_features(images)
    assert tokens.shape == untouched.forward_features(images).shape
    assert torch.allclose(vit.forward_features(images), tokens, atol=1e-5)
    assert torch.allclose(adapted.detach()(images), untouched(images), atol=1e-6)


def test_rotary_embeddings_leave_prompts_out(images):
    """Prompts must count as prefix tokens, since rotary embeddings turn all other
    tokens."""
    vit = tiny_eva(attn_type="rope", num_reg_tokens=1)
    attach(vit, VPTDeep(prompts=3, blocks=[1]))
    assert [block.attn.num_prefix_tokens for block in vit.blocks] == [2, 5, 5]


def test_parallel_needs_a_norm_before_the_mlp(images):
    with pytest.raises(ValueError, match="no norm2 before its MLP"):
        attach(tiny_vit(block_fn=ResPostBlock), AdaptFormer())
    vit = tiny_vit(block_fn=ResPostBlock)
    before = vit(images)
    assert torch.allclose(attach(vit, Adapter())(images), before, atol=1e-5)
