import warnings

import pytest
import torch
from torch import nn

from rsft.peft import (
    METHODS,
    Adapter,
    AdaptFormer,
    BitFit,
    CompositeMethod,
    FullTuning,
    LoRA,
    LoTR,
    Site,
    VPTDeep,
    VPTShallow,
    attach,
    register,
)
from tests.helpers.peft_models import method_id, tiny_vit, with_random_adapter


@pytest.mark.parametrize(
    ("position", "rows"),
    [("q", slice(0, 24)), ("k", slice(24, 48)), ("v", slice(48, 72))],
)
def test_delta_equals_its_equation(vit, position, rows):
    """y = W x + b + m (x A) B at the site's rows alone, in one matrix product for q, k,
    v (paper, equation 1)."""
    adapted = with_random_adapter(
        attach(vit, LoRA(rank=2, positions=position, blocks=[0]), learn_scales=True)
    )
    x = torch.randn(1, 5, 24)
    layer = vit.blocks[0].attn.qkv
    state = adapted.adapter_state()
    a, b = (state[f"blocks.0.{position}.{name}"] for name in "ab")
    expected = nn.functional.linear(x, layer.weight, layer.bias)
    expected[..., rows] += adapted.modulator.scales()[Site(0, position)] * (
        x @ a.T @ b.T
    )
    assert torch.allclose(layer(x), expected, atol=1e-6)
    assert layer.weight.shape == (72, 24)


@pytest.mark.parametrize("scale", [0.25, "1/r", {"*.q": 2.0, "*": 1.0}])
def test_a_fixed_scale_without_effect_is_told(vit, scale):
    method = LoRA(rank=2, scale=scale)
    with pytest.warns(UserWarning, match="fixed scale of the method has no effect"):
        scales = attach(vit, method, learn_scales=True).modulator.scales()
    assert torch.allclose(torch.tensor([*scales.values()]), torch.ones(len(scales)))


@pytest.mark.parametrize(
    ("method", "learn_scales"),
    [(LoRA(rank=2), True), (LoRA(rank=2, scale=0.25), False)],
)
def test_a_scale_with_effect_is_not(vit, method, learn_scales):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attach(vit, method, learn_scales=learn_scales)


def test_out_is_parallel_to_the_projection(vit):
    """The delta sees the projection's input, not its output."""
    adapted = with_random_adapter(attach(vit, LoRA(rank=2, positions="o", blocks=[0])))
    x = torch.randn(1, 5, 24)
    a, b = adapted.theta
    proj = vit.blocks[0].attn.proj
    assert torch.allclose(
        proj(x),
        nn.functional.linear(x, proj.weight, proj.bias) + x @ a.T @ b.T,
        atol=1e-6,
    )


def test_cores_of_lotr_share_their_factors(vit):
    adapted = with_random_adapter(attach(vit, LoTR(rank=2, positions="v", scale=0.5)))
    state = adapted.adapter_state()
    assert sorted(state) == [
        *(f"blocks.{i}.v.g" for i in range(3)),
        "shared.v.a",
        "shared.v.b",
    ]
    x = torch.randn(1, 5, 24)
    layer = vit.blocks[2].attn.qkv
    expected = nn.functional.linear(x, layer.weight, layer.bias)
    expected[..., 48:] += (
        0.5 * x @ state["shared.v.a"].T @ state["blocks.2.v.g"] @ state["shared.v.b"].T
    )
    assert torch.allclose(layer(x), expected, atol=1e-6)


def bottleneck(state, x, block=0):
    get = {
        key.removeprefix(f"blocks.{block}.mlp."): value for key, value in state.items()
    }
    x = nn.functional.layer_norm(x, x.shape[-1:], get["norm.weight"], get["norm.bias"])
    hidden = nn.functional.linear(x, get["down.weight"], get["down.bias"]).relu()
    return nn.functional.linear(hidden, get["up.weight"], get["up.bias"])


@pytest.mark.parametrize(
    "method", [Adapter(dim=3, scale=0.3), AdaptFormer(dim=3, scale=0.3)], ids=method_id
)
def test_positions_of_bottlenecks(method):
    """Adapter reads the MLP's output, AdaptFormer the MLP's input before the norm; both
    add inside LayerScale."""
    vit = tiny_vit(init_values=0.5)
    block = vit.blocks[0]
    x = torch.randn(2, 5, 24)
    middle = x + block.ls1(block.attn(block.norm1(x)))
    mlp = block.mlp(block.norm2(middle))
    state = with_random_adapter(attach(vit, method)).adapter_state()
    module_input = mlp if isinstance(method, Adapter) else middle
    assert torch.allclose(
        block(x),
        middle + block.ls2(mlp + 0.3 * bottleneck(state, module_input)),
        atol=1e-5,
    )


def test_prompts_follow_the_prefix_tokens():
    vit = tiny_vit(reg_tokens=2)
    adapted = with_random_adapter(attach(vit, VPTDeep(prompts=4, blocks=[0, 2])))
    inputs = []
    for block in vit.blocks:
        block.attn.register_forward_pre_hook(
            lambda module, args: inputs.append(args[0])
        )
    x = torch.randn(1, 3 + 16, 24)
    tokens = vit.blocks(x)
    assert [tokens_in.shape[1] for tokens_in in inputs] == [
        23,
        23,
        23,
    ] and tokens.shape == x.shape
    first, _, last = inputs
    state = adapted.adapter_state()
    assert torch.allclose(
        first[0, 3:7], vit.blocks[0].norm1(state["blocks.0.prompts"]), atol=1e-6
    )
    assert torch.allclose(
        last[0, 3:7], vit.blocks[2].norm1(state["blocks.2.prompts"]), atol=1e-6
    )
    assert torch.equal(first[0, :3], vit.blocks[0].norm1(x)[0, :3])


def test_dropout_acts_in_training_alone_and_at_its_sites(vit, images):
    adapted = with_random_adapter(
        attach(vit, LoRA(rank=2, dropout={"*.mlp2": 0.5, "*": 0}))
    )
    assert vit(images).equal(vit(images)) is False  # modules begin in training mode
    adapted.eval()
    assert torch.equal(adapted(images), adapted(images)) and torch.equal(
        vit(images), vit(images)
    )
    adapted.train()
    assert not torch.equal(adapted(images), adapted(images))
    assert not any(module.training for module in vit.modules())


@pytest.mark.parametrize(
    "method",
    [AdaptFormer(dim=8, dropout=0.5), VPTShallow(prompts=8, dropout=0.5)],
    ids=method_id,
)
def test_dropout_of_the_others(vit, images, method):
    adapted = with_random_adapter(attach(vit, method))
    assert not torch.equal(adapted(images), adapted(images))
    assert torch.equal(adapted.eval()(images), adapted(images))


def test_ranks_and_scales_by_pattern(vit):
    method = LoRA(
        rank={"blocks.0.*": 0, "*.q": 8, "*": 2},
        positions="qv",
        scale={"*.q": "1/r", "*": 3},
    )
    adapted = attach(vit, method)
    (module,) = adapted.adapter_modules
    assert [len(module.factors(site)[0]) for site in adapted.sites] == [8, 2, 8, 2]
    assert module.fixed_scales == {
        Site(1, "q"): 1 / 8,
        Site(1, "v"): 3,
        Site(2, "q"): 1 / 8,
        Site(2, "v"): 3,
    }
    assert adapted.first_adapted_stage == adapted.prefix_end == 1


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (LoRA(rank=0), "rank 0"),
        (LoRA(rank=-1), "rank -1"),
        (LoRA(rank={"blocks.9.*": 1, "*": 2}), "matches no site"),
        (LoRA(scale="r"), "scale 'r'"),
        (LoRA(blocks="last:4"), "last:4"),
        (Adapter(scale="learnable"), "AdaptFormer only"),
        (LoTR(rank={"blocks.0.*": 1, "*": 2}), "must be equal"),
        (
            CompositeMethod((LoRA(positions="q"), LoRA(positions="qv"))),
            r"adapt blocks\.0\.q",
        ),
        (CompositeMethod((Adapter(), AdaptFormer())), r"adapt blocks\.0\.mlp"),
        (
            CompositeMethod((LoRA(), FullTuning())),
            r"blocks\.0\.attn\.qkv is adapted, and its weight or bias is trained",
        ),
        (CompositeMethod((FullTuning(), LoRA())), "weight or bias is trained"),
    ],
    ids=method_id,
)
def test_failed_attach_does_not_change_the_network(images, method, message):
    vit = tiny_vit()
    with pytest.raises(ValueError, match=message):
        attach(vit, method)
    assert torch.equal(vit(images), tiny_vit()(images))
    assert [type(module) for module in vit.modules()] == [
        type(module) for module in tiny_vit().modules()
    ]
    attach(vit, LoRA())


@pytest.mark.parametrize("method", [LoRA(), BitFit(), VPTShallow()], ids=method_id)
def test_attaching_twice_is_an_error(vit, method):
    adapted = attach(vit, method)
    with pytest.raises(ValueError, match=f"already, by {method.name}"):
        attach(vit, LoRA())
    adapted.detach()
    attach(vit, LoRA()).merge()
    attach(vit, LoRA())


def test_modules_that_cannot_be_merged_remain_attached(vit):
    adapted = attach(vit, Adapter(blocks=[1]))
    adapted.merge()
    assert adapted.unmerged == ("blocks.1.mlp",)
    with pytest.raises(ValueError, match="already"):
        attach(vit, LoRA())


def test_full_tuning_of_some_blocks_beside_lora(vit, images):
    method = CompositeMethod((LoRA(rank=2, blocks=[0, 1]), FullTuning(blocks="last:1")))
    adapted = with_random_adapter(attach(vit, method))
    before = adapted(images)
    assert torch.allclose(adapted.merge()(images), before, atol=1e-4)


def test_merging_adds_in_float32():
    """Small deltas of a half-precision network are not rounded away before the sum."""
    vit = tiny_vit().bfloat16()
    adapted = attach(vit, LoRA(rank=1, positions="o", blocks=[0]))
    a, b = adapted.theta
    assert a.dtype == b.dtype == torch.float32
    weight = vit.blocks[0].attn.proj.weight
    b.data.normal_(std=0.01)
    expected = (weight.float() + b @ a).bfloat16()
    adapted.merge()
    assert torch.equal(weight, expected) and not torch.equal(
        weight, weight + (b.bfloat16() @ a.bfloat16())
    )


def test_method_names_are_unique():
    assert METHODS["lora"] is LoRA and register(LoRA) is LoRA

    class AnotherLoRA(LoRA):
        pass

    with pytest.raises(ValueError, match="'lora' is registered already"):
        register(AnotherLoRA)
