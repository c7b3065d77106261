"""PEFT on hierarchical and convolutional networks: Swin, Swin V2, ConvNeXt, ResNet."""

import pytest
import timm
import torch
from torch import nn

from rsft.peft import (
    SSF,
    Adapter,
    AdaptFormer,
    BitFit,
    FullTuning,
    LayerNormTuning,
    LoRA,
    LoTR,
    Site,
    VPTDeep,
    attach,
    export_peft,
    import_peft,
    load,
)
from rsft.peft.modules.adapter_module import named_blocks
from tests.helpers.closeness import close
from tests.helpers.hierarchical_models import (
    HIERARCHICAL,
    tiny_convnext,
    tiny_resnet,
    tiny_swin,
    tiny_swin_v2,
)
from tests.helpers.messages import mentions
from tests.helpers.peft_models import method_id, with_random_adapter

NETWORK = pytest.mark.parametrize("name", HIERARCHICAL)


def adapt(network):
    """Attach LoRA with random factors and learned scales to all positions of a
    network."""
    return with_random_adapter(
        attach(network, LoRA(rank=2, positions="all"), learn_scales=True)
    )


@NETWORK
@pytest.mark.parametrize("init", ["width", "rank"])
def test_attach_train_merge_and_detach(name, images, init):
    network = HIERARCHICAL[name]()
    untouched = HIERARCHICAL[name]()
    before = untouched(images)
    adapted = attach(
        network, LoRA(rank=2, positions="all", init=init), learn_scales=True
    )
    assert torch.allclose(adapted(images), before, atol=1e-4)
    with_random_adapter(adapted)
    changed = adapted(images)
    assert torch.allclose(changed, network(images), atol=1e-5) and not torch.allclose(
        changed, before, atol=1e-2
    )
    gradients = torch.autograd.grad(
        changed.square().sum(), [*adapted.theta, *adapted.gamma]
    )
    assert all(gradient.any() for gradient in gradients)
    assert adapted.detach() is network and torch.equal(network(images), before)
    assert [type(module) for module in network.modules()] == [
        type(module) for module in untouched.modules()
    ]


@NETWORK
def test_merged_equals_attached(name, images):
    adapted = adapt(HIERARCHICAL[name]())
    attached = adapted(images)
    merged = adapted.merge()
    assert torch.allclose(merged(images), attached, atol=1e-4) and not adapted.unmerged
    assert not any("LowRank" in type(module).__name__ for module in merged.modules())


@NETWORK
def test_saved_adapter_loads_equal(tmp_path, name, images):
    adapted = adapt(HIERARCHICAL[name]())
    adapted.save(tmp_path / "adapter.safetensors")
    again = load(HIERARCHICAL[name](), tmp_path / "adapter.safetensors")
    assert again.sites == adapted.sites and torch.equal(again(images), adapted(images))


@NETWORK
def test_joint_gradients(name, images):
    adapted = adapt(HIERARCHICAL[name]().double())
    images = images.double()
    expected = torch.autograd.grad(adapted(images[:3]).square().sum(), adapted.theta)
    expected += torch.autograd.grad(adapted(images[3:]).square().sum(), adapted.gamma)
    with adapted.joint(3):
        loss = adapted(images).square().sum()
    gradients = torch.autograd.grad(loss, [*adapted.theta, *adapted.gamma])
    assert all(torch.allclose(a, b) for a, b in zip(gradients, expected, strict=True))


@NETWORK
def test_a_step_in_function_space_does_not_depend_on_the_scale(name, images):
    outputs = []
    for scale in (0.5, 2.0):
        torch.manual_seed(0)
        network = HIERARCHICAL[name]().double()
        adapted = attach(
            network, LoRA(rank=2, positions="all"), learn_scales=True, init_scale=scale
        )
        adapted(images.double()).square().sum().backward()
        with adapted.in_function_space(), torch.no_grad():
            for parameter in adapted.theta:
                parameter.sub_(parameter.grad, alpha=1e-3)
        outputs.append(adapted(images.double()))
    assert torch.allclose(*outputs, atol=1e-9)


@NETWORK
def test_half_precision(name, images):
    adapted = adapt(HIERARCHICAL[name]())
    with torch.autocast("cpu", torch.bfloat16):
        loss = adapted(images).float().square().sum()
    gradients = torch.autograd.grad(loss, [*adapted.theta, *adapted.gamma])
    assert all(
        gradient.isfinite().all() and gradient.dtype == torch.float32
        for gradient in gradients
    )


def test_large_batches_of_a_network_that_changes_outputs_in_place(images):
    # outputs come from the pool of buffers; Swin V2 adds the bias of qkv in place
    many = images.repeat(16, 1, 1, 1)
    adapted = adapt(tiny_swin_v2())
    parameters = [*adapted.theta, *adapted.gamma]
    together = torch.autograd.grad(adapted(many).square().mean(), parameters)
    alone = torch.autograd.grad(adapted(images).square().mean(), parameters)
    assert close(together, alone)


def test_the_addition_of_a_convolution_is_that_of_its_merged_weight(images):
    adapted = with_random_adapter(
        attach(tiny_resnet(), LoRA(rank=2, positions=["conv2"], blocks=[1], scale=0.5))
    )
    inputs = []
    conv = adapted.vit.layer2[0].conv2
    conv.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    frozen_weight = conv.weight.clone()
    adapted(images)
    (module,) = adapted.adapter_modules
    (site,) = module.sites
    addition = conv.addition(inputs[0], module.delta(site))
    adapted.merge()
    change = conv.weight - frozen_weight
    assert conv.stride == (2, 2) and change.shape[2:] == (3, 3)
    assert torch.allclose(
        nn.functional.conv2d(inputs[0], change, None, 2, 1), addition, atol=1e-5
    )


def test_dropout_acts_on_the_input_of_a_convolution(images):
    adapted = with_random_adapter(
        attach(tiny_resnet(), LoRA(rank=2, positions="all", dropout=0.5))
    )
    assert torch.equal(adapted.eval()(images), adapted(images))
    adapted.train()
    assert not torch.allclose(adapted(images), adapted(images), atol=1e-3)


@pytest.mark.parametrize(
    "method",
    [BitFit(), LayerNormTuning(), FullTuning(), FullTuning(blocks="last:1")],
    ids=method_id,
)
@NETWORK
def test_tuning_of_own_parameters(name, images, method):
    network = HIERARCHICAL[name]()
    before = network(images)
    adapted = attach(network, method)
    assert torch.equal(adapted(images), before)
    attached = with_random_adapter(adapted)(images)
    assert not torch.allclose(attached, before, atol=1e-3)
    last = list(named_blocks(network))[-1]
    assert all(key.startswith(f"{last}.") for key in adapted.adapter_state()) == (
        method == FullTuning(blocks="last:1")
    )
    assert torch.equal(adapted.merge()(images), attached)


def test_adapters_where_a_block_has_an_mlp_with_the_norm_before_it(images):
    cases = [
        (tiny_swin, Adapter(dim=2)),
        (tiny_swin, AdaptFormer(dim=2)),
        (tiny_swin_v2, Adapter(dim=2)),
    ]
    for network, method in cases:
        adapted = attach(network(), method, learn_scales=True)
        assert torch.allclose(adapted(images), network()(images), atol=1e-5)
        assert not torch.allclose(
            with_random_adapter(adapted)(images), network()(images), atol=1e-2
        )


def test_lotr_shares_factors_within_a_stage(images):
    adapted = with_random_adapter(
        attach(tiny_swin(), LoTR(rank=2, blocks="1-2"), learn_scales=True)
    )
    attached = adapted(images)
    assert torch.allclose(adapted.merge()(images), attached, atol=1e-4)
    with pytest.raises(ValueError, match=mentions("ranks", "widths", "equal")):
        attach(tiny_swin(), LoTR(rank=2))


@pytest.mark.parametrize(
    ("network", "method", "reason"),
    [
        (tiny_resnet, Adapter(), "blocks.0 has no linear layer mlp.fc2"),
        (tiny_swin_v2, AdaptFormer(), "no norm2 before its MLP"),
        (tiny_convnext, AdaptFormer(), "no norm2 before its MLP"),
        (
            tiny_swin,
            VPTDeep(),
            "vpt needs a plain vision transformer, and SwinTransformer is not one",
        ),
        (
            tiny_convnext,
            SSF(),
            "ssf needs a plain vision transformer, and ConvNeXt is not one",
        ),
    ],
)
def test_methods_that_do_not_fit_are_refused(network, method, reason):
    with pytest.raises(ValueError, match=reason):
        attach(network(), method)


def assert_close(actual, expected):
    """Assert that outputs are equal to 1e-4, relative to the largest one if that is
    above 1."""
    assert (actual - expected).abs().max() < 1e-4 * max(
        1.0, float(expected.detach().abs().max())
    )


def reference_network(name):
    network = HIERARCHICAL[name]()
    # Swin V2 reads the weight of qkv past PEFT's layer otherwise
    for module in network.modules():
        if hasattr(module, "qkv_bias_separate"):
            module.qkv_bias_separate = True
    return network


@NETWORK
def test_peft_loads_our_files(tmp_path, name, images):
    peft = pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
    adapted = adapt(HIERARCHICAL[name]()).eval()
    export_peft(adapted, tmp_path)
    reference = peft.PeftModel.from_pretrained(
        reference_network(name), str(tmp_path)
    ).eval()
    expected = adapted(images)
    assert_close(reference(images), expected)
    assert_close(import_peft(HIERARCHICAL[name](), tmp_path).eval()(images), expected)
    assert_close(reference.merge_and_unload()(images), adapted.merge()(images))


TARGETS = {
    "swin": ["qkv", "proj", "fc1"],
    "swin-v2": ["qkv", "fc2"],
    "convnext": ["fc1", "fc2"],
    "convnext-v2-conv-mlp": ["fc1", "fc2"],
    "resnet": r"layer\d\.\d\.(conv\d|downsample\.0)",
    "resnet-d": r"layer\d\.\d\.(conv2|downsample\.1)",
    "resnet-basic": r"layer\d\.\d\.conv2",
}


@NETWORK
def test_peft_files_are_read(tmp_path, name, images):
    peft = pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=TARGETS[name])
    config.exclude_modules = ["patch_embed.proj"] if name.startswith("swin") else None
    reference = peft.get_peft_model(reference_network(name), config).eval()
    generator = torch.Generator().manual_seed(0)
    for key, parameter in reference.named_parameters():
        if "lora_" in key:
            parameter.data.normal_(0, 0.1, generator=generator)
    expected = reference(images)
    reference.save_pretrained(tmp_path)
    adapted = import_peft(HIERARCHICAL[name](), tmp_path).eval()
    assert_close(adapted(images), expected)
    assert_close(adapted.merge()(images), expected)
    assert not torch.allclose(expected, HIERARCHICAL[name]()(images), atol=1e-2)


def test_the_start_is_that_of_peft():
    peft = pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")
    torch.manual_seed(0)
    a = attach(
        tiny_resnet(channels=(64, 64, 64, 64)), LoRA(rank=8, positions=["conv2"])
    ).adapter_state()
    config = peft.LoraConfig(r=8, target_modules=r"layer\d\.\d\.conv2")
    reference = peft.get_peft_model(
        tiny_resnet(channels=(64, 64, 64, 64)), config
    ).state_dict()
    theirs = reference["base_model.model.layer1.0.conv2.lora_A.default.weight"]
    ours = a["blocks.0.conv2.a"]
    assert ours.shape == theirs.shape == (8, 64, 3, 3)
    assert ours.abs().max() <= (64 * 9) ** -0.5 and ours.std().item() == pytest.approx(
        theirs.std().item(), rel=0.05
    )


@pytest.mark.slow
def test_networks_of_timm_by_name():
    for name, sites in {
        "resnet18": 19,
        "swin_tiny_patch4_window7_224": 72,
        "convnextv2_atto": 24,
    }.items():
        with torch.device("meta"):
            network = timm.create_model(name, num_classes=0)
        adapted = attach(network, LoRA(positions="all"), learn_scales=True)
        assert len(adapted.sites) == len(adapted.gamma[0]) == sites, name
    assert Site(0, "conv1") in attach(tiny_resnet(), LoRA(positions="all")).sites
