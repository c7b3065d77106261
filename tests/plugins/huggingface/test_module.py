"""Every tuner of the installed peft works on a network of timm, or is refused with the
reason. The tuners are those that peft lists, so a new one is tested without a change
here."""

import copy
import re

import pytest
import torch

from rsft.peft import METHODS, attach, load
from tests.helpers.hierarchical_models import tiny_convnext, tiny_resnet, tiny_swin
from tests.helpers.messages import mentions
from tests.helpers.peft_models import NETWORKS, tiny_vit
from tests.helpers.plugins import needs_plugin

pytestmark = [needs_plugin("huggingface"), pytest.mark.slow]
peft = pytest.importorskip("peft", reason="Hugging Face PEFT is not installed")

from rsft.plugins.huggingface.method import HuggingFaceMethod  # noqa: E402
from rsft.plugins.huggingface.tuners import find_tuner, list_tuners  # noqa: E402

HIERARCHICAL = {"resnet": tiny_resnet, "swin": tiny_swin}
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def network(name=""):
    """Return a network of one block, as wide as the default settings of all tuners
    need; in float64 if the tuner takes it."""
    vit = tiny_vit(embed_dim=256, depth=1, num_heads=4, mlp_ratio=1, patch_size=16)
    return vit if name == "PSOFT" else vit.double()


def distance(a, b):
    return float((a - b).detach().abs().max() / b.detach().abs().max())


def train(adapted, images, steps=2):
    """Take steps whose largest change of a parameter is 0.05."""
    adapted.train()
    optimizer = torch.optim.SGD(adapted.theta, lr=0.05)
    for _ in range(steps):
        adapted(images).square().mean().backward()
        gradients = [p.grad for p in adapted.theta if p.grad is not None]
        largest = max(float(x.abs().max()) for x in gradients)
        for gradient in gradients:
            gradient.div_(largest)
        optimizer.step()
        optimizer.zero_grad()
    return adapted.eval()


def copy_state(module):
    return {name: x.detach().clone() for name, x in module.items()}


@pytest.fixture(scope="module")
def reasons():
    """Why a tuner is refused by its name; "" if it works."""
    found = {}
    for name in list_tuners():
        found[name] = ""
        try:
            attach(network(name), HuggingFaceMethod({"peft_type": name}))
        except ValueError as error:
            found[name] = str(error)
    return found


def test_every_tuner_works_or_is_refused(reasons):
    offered = {kind.value for kind in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING}
    assert reasons.keys() == offered | {"DORA"}
    refused = {name: reason for name, reason in reasons.items() if reason}
    assert len(reasons) - len(refused) >= 30
    for name, reason in refused.items():
        assert re.search(mentions(name, "peft"), reason)
        assert len(reason.split()) > 5


@pytest.mark.parametrize("name", list_tuners())
def test_train_save_load_export_and_merge(reasons, name, tmp_path):
    if reasons[name]:
        with pytest.raises(ValueError, match=mentions(name)):
            attach(network(name), HuggingFaceMethod({"peft_type": name}))
        return
    torch.manual_seed(3)
    vit = network(name)
    images = IMAGES.to(vit.norm.weight.dtype)
    frozen = copy_state(vit.state_dict())
    before = vit(images)
    adapted = attach(vit, HuggingFaceMethod({"peft_type": name}))
    start = copy_state(adapted.adapter_state())
    train(adapted, images)
    trained = {id(p) for p in adapted.theta}
    assert {id(p) for p in adapted.parameters() if p.requires_grad} == trained
    moved = [
        key for key, x in adapted.adapter_state().items() if not x.equal(start[key])
    ]
    assert len(moved) == len(adapted.theta)
    outputs = adapted(images)
    assert distance(outputs, before) > 1e-3

    adapted.save(tmp_path / "adapter.safetensors")
    torch.manual_seed(99)  # another start of everything random
    loaded = load(network(name), tmp_path / "adapter.safetensors")
    assert distance(loaded(images), outputs) <= 1e-5
    with pytest.raises(ValueError, match="do not fit"):
        loaded.load_adapter_state(dict(list(loaded.adapter_state().items())[1:]))

    adapted.method.export_peft(adapted, tmp_path)
    torch.manual_seed(98)
    theirs = peft.PeftModel.from_pretrained(network(name), str(tmp_path)).eval()
    assert distance(theirs(images), outputs) <= 1e-5

    other = copy.deepcopy(adapted)
    assert other.detach() is other.vit
    state = other.vit.state_dict()
    assert list(state) == list(frozen)
    assert all(x.equal(frozen[key]) for key, x in state.items())

    merged = adapted.merge()
    assert distance(merged(images), outputs) <= 1e-5
    if not adapted.unmerged:
        assert [type(x) for x in merged.modules()] == [
            type(x) for x in network().modules()
        ]


@pytest.mark.parametrize("name", ["LORA", "OFT", "VERA"])
def test_learned_scales_multiply_what_a_layer_adds(name):
    vit = network()
    images = IMAGES.double()
    before = vit(images)
    method = HuggingFaceMethod({"peft_type": name})
    plain = train(attach(network(), method), images)
    adapted = attach(vit, method, learn_scales=True)
    adapted.load_adapter_state(
        plain.adapter_state() | {"gamma": adapted.adapter_state()["gamma"]}
    )
    assert [site.position for site in adapted.sites] == [
        *("q", "k", "v", "out", "mlp1", "mlp2")
    ]
    assert distance(adapted(images), plain(images)) < 1e-6  # gamma is float32
    (gradient,) = torch.autograd.grad(adapted(images).square().sum(), adapted.gamma)
    assert gradient.all() and len(gradient) == 6
    adapted.modulator.set_scales({"*": 0.5, "blocks.0.k": 0})
    outputs = adapted(images)
    layer = vit.blocks[0].attn.qkv
    x = torch.randn(2, 256, dtype=torch.float64)
    base = layer.get_base_layer()(x)
    full = plain.vit.blocks[0].attn.qkv(x)
    expected = base + 0.5 * (full - base)
    expected[:, 256:512] = base[:, 256:512]
    assert distance(layer(x), expected) < 1e-6
    assert distance(adapted.merge()(images), outputs) < 1e-5
    assert not adapted.unmerged and distance(outputs, before) > 1e-3


def test_joint_gradients_equal_those_of_two_passes():
    adapted = attach(
        network(), HuggingFaceMethod({"peft_type": "LORA"}), learn_scales=True
    )
    images = torch.cat([IMAGES, IMAGES]).double()
    train(adapted, images, steps=1)
    inner = torch.autograd.grad(adapted(images[:4]).square().sum(), adapted.theta)
    outer = torch.autograd.grad(adapted(images[4:]).square().sum(), adapted.gamma)
    with adapted.joint(4):
        loss = adapted(images).square().sum()
    joint = torch.autograd.grad(loss, [*adapted.theta, *adapted.gamma])
    for a, b in zip(joint, [*inner, *outer], strict=True):
        torch.testing.assert_close(a, b)


def test_pruned_sites_are_off(tmp_path):
    method = HuggingFaceMethod({"peft_type": "LORA"})
    adapted = attach(network(), method, learn_scales=True)
    train(adapted, IMAGES.double())
    adapted.modulator.set_scales({"*.v": 0.01, "*.out": 0.02})
    assert [x.position for x in adapted.prune(0.1)] == ["v", "out"]
    outputs = adapted(IMAGES.double())
    adapted.save(tmp_path / "a.safetensors")
    loaded = load(network(), tmp_path / "a.safetensors")
    assert loaded.sites == adapted.sites and len(loaded.sites) == 4
    assert distance(loaded(IMAGES.double()), outputs) < 1e-6
    assert distance(adapted.merge()(IMAGES.double()), outputs) < 1e-6


@pytest.mark.parametrize(
    ("name", "kind", "positions"),
    [
        ("resnet", "LORA", ["conv1", "conv2"]),
        ("swin", "OFT", "qkvo12"),
        ("no fused qkv, rotary", "LORA", "qv"),
        ("separate qkv bias, rotary", "VERA", "qkvo"),
    ],
)
def test_other_networks(name, kind, positions):
    make = (NETWORKS | HIERARCHICAL)[name]
    method = HuggingFaceMethod({"peft_type": kind}, positions, "last:1")
    adapted = attach(make(), method)
    before = make()(IMAGES)
    assert distance(adapted(IMAGES), before) < 1e-5
    outputs = train(adapted, IMAGES)(IMAGES)
    assert distance(outputs, before) > 1e-4
    assert distance(adapted.merge()(IMAGES), outputs) < 1e-4


@pytest.mark.parametrize(
    ("config", "positions", "words"),
    [
        ({"peft_type": "NOPE"}, "qkvo12", ["'NOPE'", "LORA", "OFT"]),
        ({}, "qkvo12", ["peft_type", "LORA"]),
        ({"peft_type": "LN_TUNING"}, "qkvo12", ["LN_TUNING", "layernorm"]),
        ({"peft_type": "LORA"}, "qv", ["blocks.0.attn.qkv", "q, k and v together"]),
        ({"peft_type": "OFT", "blok": 4}, "o", ["blok", "oft_block_size"]),
        ({"peft_type": "LORA", "target_modules": ["x"]}, "o", ["target_modules"]),
        ({"peft_type": "LORA", "r": 0}, "o", ["LORA", "r"]),
        ({"peft_type": "LORA", "bias": "all"}, "o", ["proj.bias", "frozen"]),
        ({"peft_type": "LORA", "init_lora_weights": "pissa"}, "o", ["proj.weight"]),
        ({"peft_type": "LORA", "init_lora_weights": "eva"}, "o", ["eva", "batches"]),
        ({"peft_type": "ADAMSS", "use_asa": True}, "o", ["use_asa"]),
        ({"peft_type": "PVERA", "generator_seed": 1}, "o", ["generator"]),
    ],
)
def test_faults_are_explained(config, positions, words):
    vit = network("PSOFT")  # in float32
    before = copy_state(vit.state_dict())
    with pytest.raises(ValueError, match=mentions(*words)):
        attach(vit, HuggingFaceMethod(config, positions))
    assert all(x.equal(before[key]) for key, x in vit.state_dict().items())
    adapted = attach(vit, HuggingFaceMethod({"peft_type": "IA3"}, "o"))  # still usable
    assert adapted.detach() is vit


def test_a_tuner_that_takes_maps_for_convolutions_is_refused():
    method = HuggingFaceMethod({"peft_type": "OFT", "oft_block_size": 4}, ["mlp1"])
    with pytest.raises(ValueError, match=mentions("OFT of peft")):
        attach(tiny_convnext(), method)


def test_scale_invariant_steps_are_refused():
    adapted = attach(
        network(), HuggingFaceMethod({"peft_type": "IA3"}, "o"), learn_scales=True
    )
    with (
        pytest.raises(ValueError, match="scale_invariant_steps"),
        adapted.in_function_space(),
    ):
        pass


def test_the_method_is_registered():
    assert METHODS["hf"] is HuggingFaceMethod
    assert find_tuner("dora").implied == {"use_dora": True}
