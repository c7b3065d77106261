import copy

import pytest
import timm
import torch

from rsft.peft import METHODS, LoRA, attach, register
from tests.peft.conftest import tiny_vit

METHODS_TO_TEST = [
    LoRA(rank=2),
    LoRA(rank=3, positions="qv", blocks="last:1", scale="1/r"),
    LoRA(positions="o1", scale=2),
]
EACH = pytest.mark.parametrize("method", METHODS_TO_TEST, ids=repr)
EITHER = pytest.mark.parametrize("modulated", [False, True])


def learned(adapted):
    for parameter in (*adapted.theta, *adapted.gamma):
        parameter.data.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)), alpha=0.3)
    return adapted


@EACH
@EITHER
def test_no_op_until_something_is_learned(vit, images, method, modulated):
    before = vit(images)
    assert torch.equal(attach(vit, method, modulated=modulated)(images), before)


@EACH
def test_only_theta_and_gamma_train(vit, images, method):
    adapted = learned(attach(vit, method, modulated=True))
    adapted(images).sum().backward()
    trained = {id(p) for p in adapted.parameters() if p.grad is not None}
    assert trained == {id(p) for p in (*adapted.theta, *adapted.gamma)}
    assert not {id(p) for p in adapted.theta} & {id(p) for p in adapted.gamma}


@EACH
@EITHER
def test_detach_restores_the_bytes(vit, images, method, modulated):
    before = copy.deepcopy(vit.state_dict())
    after = learned(attach(vit, method, modulated=modulated)).detach().state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


@EACH
@EITHER
def test_merged_equals_attached(vit, images, method, modulated):
    frozen = vit(images)
    adapted = learned(attach(vit, method, modulated=modulated))
    attached = adapted(images)
    assert not torch.allclose(attached, frozen, atol=1e-2)
    assert torch.allclose(adapted.merge()(images), attached, atol=1e-4)
    with pytest.raises(ValueError, match="merged already"):
        adapted.merge()


@EACH
@EITHER
def test_state_round_trip(images, method, modulated):
    first = learned(attach(tiny_vit(), method, modulated=modulated))
    second = attach(tiny_vit(), method, modulated=modulated)
    second.load_adapter_state(first.adapter_state())
    assert torch.equal(first(images), second(images))


def test_state_that_does_not_fit(vit):
    adapted = attach(vit, LoRA(rank=2))
    state = adapted.adapter_state()
    with pytest.raises(ValueError, match="2 keys"):
        adapted.load_adapter_state({key: value for key, value in state.items() if not key.startswith("blocks.0.q")})
    state["blocks.0.q.a"] = torch.zeros(3, 24)
    with pytest.raises(ValueError, match=r"blocks\.0\.q\.a"):
        adapted.load_adapter_state(state)


def test_delta_is_the_equation(vit, images):
    """y = W x + b + m (x A) B at the value rows alone (METHOD 1)."""
    adapted = learned(attach(vit, LoRA(rank=2, positions="v", blocks=[0]), modulated=True))
    x = torch.randn(1, 5, 24)
    layer = vit.blocks[0].attn.qkv
    module = next(iter(adapted.modules_at.values()))
    scale = next(iter(adapted.modulator.values().values()))
    expected = layer.base(x)
    expected[..., 48:] += scale * (x @ module.a.T @ module.b.T)
    assert torch.allclose(layer(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "positions", "rank", "count"),
    [
        ("vit_base_patch16_224", "qv", 4, 147_456),
        ("vit_base_patch16_224", "qv", 8, 294_912),
        ("vit_base_patch16_224", "qv", 256, 9_437_184),
        ("vit_base_patch16_224", "qkvo12", 4, 663_552),
        ("vit_large_patch16_224", "qv", 4, 393_216),
    ],
)
def test_parameter_counts(name, positions, rank, count):
    with torch.device("meta"):
        vit = timm.create_model(name, num_classes=0)
    adapted = attach(vit, LoRA(rank=rank, positions=positions), modulated=True)
    assert sum(p.numel() for p in adapted.theta) == count
    assert adapted.modulator.gamma.numel() == 12 * len(positions) * (1 if "base" in name else 2)


def test_twice_attached(vit):
    attach(vit, LoRA())
    with pytest.raises(ValueError, match="already"):
        attach(vit, LoRA())


def test_network_without_the_site():
    with pytest.raises(ValueError, match="no blocks"):
        attach(tiny_vit(mlp_layer=torch.nn.Identity), LoRA(positions="1"))


def test_a_name_is_registered_once():
    assert METHODS["lora"] is LoRA
    with pytest.raises(ValueError, match="lora"):
        register(LoRA)
