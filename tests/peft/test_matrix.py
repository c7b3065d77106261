"""What every PEFT method guarantees, one test for each guarantee, on each method with
and without a modulator.

Vocabulary: a site is a (block, position) of the network, with positions q, k, v, out,
mlp1, mlp2 and mlp. A method is a configuration; the modules it builds hold theta, the
parameters of the inner loop. The modulator holds gamma, one learned scale for each
site, which the outer loop trains (`learn_scales`). A joint batch is [inner ; meta]: its
first items give theta's gradient, the others gamma's. A module that cannot be folded
into the weights stays unmerged.

The guarantees: attaching changes no output (prompts excepted); network and fast path
agree; only theta and gamma train; detaching restores every byte; merging keeps the
outputs; a saved adapter loads equal; joint and checkpointed gradients equal the plain
ones; kernels and plain autograd agree; bfloat16, float64 and copies work; the frozen
prefix never changes; parameter counts are exact.
"""

import copy
import json

import pytest
import timm
import torch
from torch import nn

from rsft.peft import (
    METHODS,
    SSF,
    Adapter,
    AdaptFormer,
    BitFit,
    CompositeMethod,
    FullTuning,
    LayerNormTuning,
    LinearProbe,
    LoRA,
    LoRAWithAdaptFormer,
    LoTR,
    VPTDeep,
    VPTShallow,
    attach,
    load,
)
from rsft.peft.kernels import linear as linear_kernel
from rsft.peft.kernels.matmul import matmul_linear
from tests.helpers.closeness import close
from tests.helpers.peft_models import method_id, rich_vit, tiny_vit, with_random_adapter

ADDITIVE = {
    "lora": LoRA(rank=2),
    "lora-by-pattern": LoRA(
        rank={"blocks.*.q": 3, "blocks.0.*": 0, "*": 2}, positions="qvo", scale="1/r"
    ),
    "lora-last-block": LoRA(rank=2, positions="o12", blocks="last:1", scale=2),
    "lora-sequential-out": LoRA(rank=2, out_insertion="sequential"),
    "lotr": LoTR(rank=2),
    "adapter": Adapter(dim=3),
    "adaptformer": AdaptFormer(dim=3, blocks="every:2"),
    "lora+adaptformer": LoRAWithAdaptFormer(rank=2, dim=3),
    "composite-lora-adapter": CompositeMethod(
        (LoRA(rank=2, positions="2"), Adapter(dim=2, blocks=[1]))
    ),
}
"""Methods with scales, which a modulator can learn."""

FEATURES = {
    "lora": LoRA(
        rank=2, positions="qo12", out_insertion="sequential", modulator="feature"
    ),
    "lotr": LoTR(rank=2, positions="qv", modulator="feature"),
    "adapter": Adapter(dim=3, modulator="feature"),
    "adaptformer-learnable": AdaptFormer(
        dim=3, blocks="every:2", scale="learnable", modulator="feature"
    ),
    "lora+adaptformer": LoRAWithAdaptFormer(
        rank=2, dim=3, positions="kv", modulator="feature"
    ),
}
"""Methods whose modulator learns a factor for every output feature."""

OTHERS = {
    "adaptformer-learnable": AdaptFormer(dim=3, scale="learnable"),
    "vpt-shallow": VPTShallow(prompts=2),
    "vpt-deep": VPTDeep(prompts=2),
    "vpt-deep-blocks": VPTDeep(prompts=2, blocks=[1, 2]),
    "bitfit": BitFit(),
    "layernorm": LayerNormTuning(blocks="last:2"),
    "ssf": SSF(),
    "linear-probe": LinearProbe(),
    "full": FullTuning(),
    "composite-ssf-lora": CompositeMethod((SSF(), LoRA(rank=2))),
}

CASES = [
    *(
        pytest.param(method, True, id=f"{name}-modulated")
        for name, method in ADDITIVE.items()
    ),
    *(
        pytest.param(method, True, id=f"{name}-features")
        for name, method in FEATURES.items()
    ),
    *(
        pytest.param(method, False, id=name)
        for name, method in (ADDITIVE | OTHERS).items()
    ),
]
EACH = pytest.mark.parametrize(("method", "learn_scales"), CASES)
BOTH_NETWORKS = pytest.mark.parametrize(
    "network", [rich_vit, tiny_vit], ids=["rich", "plain"]
)
PLAIN = pytest.param(tiny_vit, marks=pytest.mark.exhaustive)
NETWORK = pytest.mark.parametrize("network", [rich_vit, PLAIN], ids=["rich", "plain"])


def gradients(adapted, loss):
    parameters = [*adapted.theta, *adapted.gamma]
    if not parameters:
        return []
    return torch.autograd.grad(
        loss, parameters, allow_unused=True, materialize_grads=True
    )


def test_every_method_is_tested():
    tested = {type(method) for method in (ADDITIVE | OTHERS).values()}
    methods = [METHODS[name] for name in METHODS]
    builtin = [x for x in methods if x.__module__.startswith("rsft.peft.")]
    assert tested == {CompositeMethod, *builtin}
    assert tuple(method.name for method in builtin) == (
        "lora",
        "lotr",
        "adapter",
        "adaptformer",
        "lora+adaptformer",
        "vpt-shallow",
        "vpt-deep",
        "bitfit",
        "layernorm",
        "ssf",
        "linear-probe",
        "full",
    )


@EACH
@NETWORK
def test_attaching_changes_no_output(images, method, learn_scales, network):
    vit = network()
    before = vit(images)
    after = attach(vit, method, learn_scales=learn_scales)(images)
    assert after.shape == before.shape
    assert torch.allclose(after, before, atol=1e-5) == method.is_identity_at_init


@EACH
@NETWORK
def test_network_and_fast_path_agree(images, method, learn_scales, network):
    vit = network()
    before = vit(images)
    adapted = with_random_adapter(attach(vit, method, learn_scales=learn_scales))
    assert torch.allclose(adapted(images), vit(images), atol=1e-5)
    assert torch.allclose(adapted(images), before, atol=1e-3) == (
        method == LinearProbe()
    )
    tokens = adapted.forward_features(images)
    assert tokens.shape == network().forward_features(images).shape
    assert torch.allclose(tokens, vit.forward_features(images), atol=1e-5)
    by_parts, *_ = adapted.run_suffix_with_blocks(adapted.run_frozen_prefix(images))
    assert torch.allclose(tokens, by_parts, atol=1e-6)
    assert torch.allclose(
        tokens[:, :1],
        adapted.forward_features(images, class_token_only=True),
        atol=1e-5,
    )


@EACH
def test_only_theta_and_gamma_are_trained(vit, images, method, learn_scales):
    adapted = with_random_adapter(attach(vit, method, learn_scales=learn_scales))
    theta = {id(p) for p in adapted.theta}
    gamma = {id(p) for p in adapted.gamma}
    assert not theta & gamma and len(gamma) == learn_scales
    assert {id(p) for p in adapted.parameters() if p.requires_grad} == theta | gamma
    assert all(
        gradient.any()
        for gradient in gradients(adapted, adapted(images).square().sum())
    )


@EACH
def test_detach_restores_every_byte(images, method, learn_scales):
    vit = rich_vit()
    untouched = rich_vit()
    adapted = with_random_adapter(attach(vit, method, learn_scales=learn_scales))
    adapted(images)
    assert adapted.detach() is vit
    after = vit.state_dict()
    before = untouched.state_dict()
    assert list(before) == list(after) and all(
        torch.equal(before[key], after[key]) for key in before
    )
    assert torch.equal(vit(images), untouched(images))
    assert [type(module) for module in vit.modules()] == [
        type(module) for module in untouched.modules()
    ]
    assert not any(parameter.requires_grad for parameter in vit.parameters())
    assert vars(vit).keys() == vars(untouched).keys()
    with pytest.raises(ValueError, match="detached already"):
        adapted.merge()


@EACH
@BOTH_NETWORKS
def test_merged_equals_attached(images, method, learn_scales, network):
    adapted = with_random_adapter(attach(network(), method, learn_scales=learn_scales))
    attached = adapted(images)
    vit = adapted.merge()
    assert torch.allclose(vit(images), attached, atol=1e-4)
    assert torch.allclose(adapted(images), attached, atol=1e-4)
    kinds = {placement.split(".")[-1] for placement in adapted.unmerged}
    if isinstance(method, VPTShallow | VPTDeep):
        assert kinds == {"prompts", "exit"}
    elif "SSF" in repr(method) and network is rich_vit:
        # has no bias to fold a shift into
        assert adapted.unmerged == ("patch_embed.proj",)
    else:
        assert kinds == ({"mlp"} if "Adapt" in repr(method) else set())
    with pytest.raises(ValueError, match="merged already"):
        adapted.merge()


@EACH
def test_saved_equals_loaded(images, method, learn_scales, tmp_path):
    first = with_random_adapter(attach(tiny_vit(), method, learn_scales=learn_scales))
    first.save(tmp_path / "adapter.safetensors")
    second = load(tiny_vit(), tmp_path / "adapter.safetensors")
    assert torch.equal(first(images), second(images))
    assert json.dumps(second.method, default=vars) == json.dumps(
        first.method, default=vars
    )
    third = attach(tiny_vit(), method, learn_scales=learn_scales)
    third.load(tmp_path / "adapter.safetensors")
    assert torch.equal(first(images), third(images))


@EACH
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointed"])
def test_joint_gradients_equal_those_of_two_passes(
    images, method, learn_scales, checkpointing
):
    adapted = with_random_adapter(attach(rich_vit(), method, learn_scales=learn_scales))
    count = len(adapted.theta)
    inner = gradients(adapted, adapted(images[:3]).square().sum())[:count]
    outer = gradients(adapted, adapted(images[3:]).square().sum())[count:]
    adapted.checkpointing = checkpointing
    with adapted.joint(3):
        loss = adapted(images).square().sum()
    assert close(gradients(adapted, loss), [*inner, *outer])


@EACH
def test_checkpointed_gradients_are_equal(images, method, learn_scales):
    adapted = with_random_adapter(attach(rich_vit(), method, learn_scales=learn_scales))
    plain = gradients(adapted, adapted(images).square().sum())
    adapted.checkpointing = True
    assert close(gradients(adapted, adapted(images).square().sum()), plain, 1e-6)


@EACH
@NETWORK
def test_kernels_and_plain_autograd_agree(images, method, learn_scales, network):
    ours = with_random_adapter(
        attach(network(), method, learn_scales=learn_scales, kernels=True)
    )
    reference = with_random_adapter(
        attach(network(), method, learn_scales=learn_scales, kernels=False)
    )
    assert close([ours(images)], [reference(images)]) and close(
        [ours.vit(images)], [reference.vit(images)]
    )
    assert close(
        *(
            gradients(adapted, adapted(images).square().sum())
            for adapted in (ours, reference)
        )
    )
    joint = []
    for adapted in (ours, reference):
        with adapted.joint(3):
            loss = adapted(images).square().sum()
        joint.append(gradients(adapted, loss))
    assert close(*joint)
    with torch.autocast("cpu", torch.bfloat16):
        rough = [adapted(images).float() for adapted in (ours, reference)]
    assert torch.allclose(*rough, atol=0.1)
    grads = (
        gradients(adapted, y.square().sum())
        for adapted, y in zip((ours, reference), rough, strict=True)
    )
    a, b = (
        torch.cat([torch.zeros(1), *(gradient.flatten() for gradient in each)])
        for each in grads
    )
    assert (a - b).norm() <= 0.05 * b.norm()
    assert close([ours.merge()(images)], [reference.merge()(images)], 0)


def test_checkpointing_skips_the_last_product_of_a_block(images, monkeypatch):
    forward = []  # shapes of the layers; a backward product has no bias

    def spy(x, weight, *bias):
        forward.extend([tuple(weight.shape)] if bias else [])
        return matmul_linear(x, weight, *bias)

    monkeypatch.setattr(linear_kernel, "matmul_linear", spy)
    adapted = with_random_adapter(attach(tiny_vit(depth=2), LoRA(rank=2)))
    adapted.checkpointing = True
    gradients(adapted, adapted(images).square().sum())
    blocks = adapted.vit.blocks
    assert forward.count(tuple(blocks[0].mlp.fc1.weight.shape)) == 4
    assert forward.count(tuple(blocks[0].mlp.fc2.weight.shape)) == 2


@EACH
@pytest.mark.parametrize("cast_weights", [False, True], ids=["", "cast weights"])
def test_bfloat16(images, method, learn_scales, cast_weights):
    adapted = with_random_adapter(attach(rich_vit(), method, learn_scales=learn_scales))
    exact = adapted(images)
    if cast_weights:
        adapted.cast_frozen_weights()
    with torch.autocast("cpu", torch.bfloat16):
        rough = adapted(images)
        network = adapted.vit(images)
    assert torch.allclose(rough.float(), exact, atol=0.2) and torch.allclose(
        network.float(), exact, atol=0.2
    )
    for gradient in gradients(adapted, rough.float().square().sum()):
        assert gradient.dtype == torch.float32 and gradient.isfinite().all()
    if cast_weights and adapted.theta:
        with pytest.raises(ValueError, match="rounded"):
            adapted.merge()


@EACH
def test_full_precision_within_autocast(images, method, learn_scales):
    adapted = with_random_adapter(attach(rich_vit(), method, learn_scales=learn_scales))
    layers = [
        module
        for module in adapted.vit.modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    weights = [layer.weight for layer in layers if not layer.weight.requires_grad]
    for weight in weights:
        weight.data = weight.data.bfloat16().float()
    exact = adapted(images)
    adapted.cast_frozen_weights()
    with torch.autocast("cpu", torch.bfloat16), adapted.in_full_precision():
        full = adapted(images)
    assert full.dtype == torch.float32 and torch.allclose(full, exact, atol=1e-5)
    assert all(weight.dtype == torch.bfloat16 for weight in weights)


@EACH
def test_float64(images, method, learn_scales):
    adapted = with_random_adapter(
        attach(rich_vit().double(), method, learn_scales=learn_scales)
    )
    assert adapted(images.double()).dtype == torch.float64
    assert all(parameter.dtype == torch.float64 for parameter in adapted.theta)


@EACH
def test_a_copy_is_independent(images, method, learn_scales):
    adapted = with_random_adapter(attach(rich_vit(), method, learn_scales=learn_scales))
    before = adapted(images)
    other = copy.deepcopy(adapted)
    assert torch.equal(other(images), before)
    with_random_adapter(other).detach()
    assert torch.equal(other.vit(images), rich_vit()(images))
    assert torch.equal(adapted(images), before)


@EACH
def test_frozen_prefix_does_not_change(images, method, learn_scales):
    adapted = attach(tiny_vit(), method, learn_scales=learn_scales)
    prefix = adapted.run_frozen_prefix(images)
    assert not prefix.requires_grad
    assert torch.equal(with_random_adapter(adapted).run_frozen_prefix(images), prefix)


# the same modules in more and wider blocks
LARGE = pytest.param("large", marks=pytest.mark.exhaustive)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["base", LARGE])
@pytest.mark.parametrize(
    ("method", "base", "large"),
    [
        (LoRA(rank=4, positions="qv"), 147_456, 393_216),
        (LoRA(rank=8, positions="qv"), 294_912, 786_432),
        (LoRA(rank=256, positions="qv"), 9_437_184, 25_165_824),
        (LoRA(rank=4), 663_552, 1_769_472),
        (AdaptFormer(dim=4), 101_424, 270_432),
        (AdaptFormer(dim=8), 175_200, 467_136),
        (AdaptFormer(dim=256), 4_749_312, 12_662_784),
        (AdaptFormer(dim=4, scale="learnable"), 101_436, 270_456),
        (Adapter(dim=4), 101_424, 270_432),
        (LoRAWithAdaptFormer(rank=4, dim=4, positions="qv"), 248_880, 663_648),
        (
            LoTR(rank=4, positions="qv"),
            2 * 4 * 2 * 768 + 24 * 16,
            2 * 4 * 2 * 1024 + 48 * 16,
        ),
        (VPTShallow(prompts=10), 7_680, 10_240),
        (VPTDeep(prompts=10), 92_160, 245_760),
        (BitFit(), 102_912, 272_384),
        # without patch embedding and final norm, as in LIFT
        (
            BitFit(blocks="every:1"),
            101_376,
            270_336,
        ),
        (LayerNormTuning(), 38_400, 100_352),
        (SSF(), 205_824, 544_768),
        (LinearProbe(), 0, 0),
        (FullTuning(), 85_798_656, 303_301_632),
    ],
    ids=method_id,
)
def test_parameter_counts(method, base, large, size):
    with torch.device("meta"):
        vit = timm.create_model(f"vit_{size}_patch16_224", num_classes=0)
    assert (
        sum(p.numel() for p in attach(vit, method).theta)
        == {"base": base, "large": large}[size]
    )


@pytest.mark.parametrize(
    ("method", "count"),
    [
        (LoRA(), 72),
        (LoTR(positions="qv"), 24),
        (AdaptFormer(), 12),
        (Adapter(modulator="feature"), 12 * 768),
        (LoRA(modulator="feature"), 12 * (5 * 768 + 3072)),
    ],
    ids=method_id,
)
def test_scalars_of_the_modulator(method, count):
    with torch.device("meta"):
        vit = timm.create_model("vit_base_patch16_224", num_classes=0)
    adapted = attach(vit, method, learn_scales=True)
    assert [p.numel() for p in adapted.gamma] == [count]
