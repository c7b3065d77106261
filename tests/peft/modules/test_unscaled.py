"""Full tuning of networks with batch norm: whether running statistics are learned."""

import pytest
import torch
from torch import nn

from rsft.backbones.aconvnet import build_aconvnet
from rsft.backbones.loading import load_backbone
from rsft.peft import BitFit, FullTuning, LayerNormTuning, attach, load
from tests.helpers.hierarchical_models import tiny_resnet

IMAGES = 2 * torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) + 1
NAMES = {
    f"layer{number}.0.norm1.running_{name}"
    for number in (1, 2, 3, 4)
    for name in ("mean", "var")
}


def network(seed=0):
    return load_backbone("aconvnet", 32, seed=seed).vit


def trained(vit, method=None, steps=2, stage=None):
    """Return the adapted network after some steps of SGD, in training mode."""
    adapted = attach(vit, method or FullTuning())
    if stage is not None:
        adapted.keep_before(stage)
    adapted.train()
    optimizer = torch.optim.SGD(adapted.theta, lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        vit(IMAGES).square().sum().backward()
        optimizer.step()
    return adapted


def copy_state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_equal(state, expected):
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def test_statistics_follow_the_batches():
    vit = network()
    with torch.no_grad():
        maps = vit.layer1[0].conv1(IMAGES)
    adapted = trained(vit, steps=1)
    state = adapted.adapter_state()
    assert {name for name in state if "running" in name} == NAMES
    torch.testing.assert_close(
        state["layer1.0.norm1.running_mean"], 0.1 * maps.mean((0, 2, 3))
    )
    expected = 0.9 + 0.1 * maps.transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(state["layer1.0.norm1.running_var"], expected)


def test_evaluation_mode_uses_and_keeps_the_statistics():
    adapted = trained(network())
    adapted.eval()
    before = {name: tensor.clone() for name, tensor in adapted.adapter_state().items()}
    with torch.no_grad():
        both = adapted(IMAGES)
        first = adapted(IMAGES[:1])
    torch.testing.assert_close(both[:1], first)
    assert_equal(adapted.adapter_state(), before)


def test_a_saved_state_has_the_statistics(tmp_path):
    adapted = trained(network()).eval()
    adapted.save(tmp_path / "full.safetensors")
    again = load(network(seed=1), tmp_path / "full.safetensors").eval()
    with torch.no_grad():
        assert torch.equal(adapted(IMAGES), again(IMAGES))


def test_merging_keeps_the_statistics():
    vit = network()
    adapted = trained(vit).eval()
    with torch.no_grad():
        expected = adapted(IMAGES)
    merged = adapted.merge()
    assert adapted.unmerged == () and merged is vit
    with torch.no_grad():
        torch.testing.assert_close(vit(IMAGES), expected)
    fresh = build_aconvnet(32).requires_grad_(False).eval()
    fresh.load_state_dict(dict(vit.state_dict()))  # without the version that torch adds
    with torch.no_grad():
        assert torch.equal(fresh(IMAGES), vit(IMAGES))


def test_detaching_restores_the_network_bit_for_bit():
    vit = network()
    before = copy_state(vit)
    adapted = trained(vit)
    assert any(
        not torch.equal(tensor, before[name])
        for name, tensor in vit.state_dict().items()
        if name in NAMES
    )
    adapted.detach()
    assert_equal(vit.state_dict(), before)
    adapted = attach(vit, FullTuning())  # a state that was loaded, without a step
    adapted.load_adapter_state(
        {name: tensor + 1 for name, tensor in adapted.adapter_state().items()}
    )
    adapted.detach()
    assert_equal(vit.state_dict(), before)


def test_kept_blocks_keep_their_statistics():
    adapted = attach(network(), FullTuning())
    before = {name: tensor.clone() for name, tensor in adapted.adapter_state().items()}
    adapted.detach()
    state = trained(adapted.vit, stage=2).adapter_state()
    changed = {name for name in NAMES if not torch.equal(state[name], before[name])}
    assert changed == {name for name in NAMES if name.startswith(("layer3", "layer4"))}


@pytest.mark.parametrize("method", [BitFit(), LayerNormTuning()])
def test_methods_that_train_parts(method):
    """Batch norms whose weight is not trained stay in evaluation mode."""
    vit = network()
    adapted = attach(vit, method)
    adapted.train()
    norms = [module for module in vit.modules() if isinstance(module, nn.BatchNorm2d)]
    has_weights = any(name.endswith("norm1.weight") for name in adapted.adapter_state())
    assert [norm.training for norm in norms] == [has_weights] * 4
    assert NAMES.isdisjoint(adapted.adapter_state()) is not has_weights


def test_a_resnet_keeps_its_statistics():
    vit = tiny_resnet()
    before = copy_state(vit)
    adapted = trained(vit)
    assert not any(
        "running" in name or "num_batches" in name for name in adapted.adapter_state()
    )
    assert set(adapted.adapter_state()) == {
        name for name, _ in tiny_resnet().named_parameters()
    }
    after = vit.state_dict()
    assert all(
        torch.equal(after[name], before[name])
        for name in before
        if "running" in name or "num_b" in name
    )
    assert not any(module.training for module in vit.modules())
    adapted.detach()
    assert_equal(vit.state_dict(), before)
