"""A-ConvNet: a network that starts at random weights."""

import pytest
import torch
from torch import nn

from rsft.backbones import fit_inputs
from rsft.backbones.aconvnet import (
    MAX_SIZE,
    MIN_SIZE,
    NAME,
    PADDED_NAME,
    build_aconvnet,
)
from rsft.backbones.loading import load_backbone
from rsft.errors import RequestError
from rsft.models.loading import build_classifier
from rsft.recipe.load import load_recipe
from tests.helpers.messages import mentions


def recipe(tmp_path, *overrides):
    path = tmp_path / "small.yaml"
    path.write_text(
        "data: {root: x, size: 32}\nbackbone: {name: aconvnet, pool: avg}\npeft:"
        " {method: full}\ntrain: {epochs: 1}\n"
    )
    return load_recipe(path, overrides)


@pytest.mark.parametrize("size", range(MIN_SIZE, MAX_SIZE + 1, 8))
def test_every_side_has_features(size):
    network = build_aconvnet(size).eval()
    maps = network.forward_features(torch.zeros(2, 3, size, size))
    assert maps.shape[:2] == (2, 128) and min(maps.shape[2:]) >= 1
    assert network(torch.zeros(2, 3, size, size)).shape == (2, 128)


def test_only_small_sides_are_padded():
    padded = build_aconvnet(47).layer3[0]
    plain = build_aconvnet(48).layer3[0]
    paddings = [
        x.padding[0]
        for block in (padded, plain)
        for x in block.modules()
        if isinstance(x, nn.Conv2d)
    ]
    assert paddings == [2, 0]


def test_the_convolutions_are_those_of_the_paper():
    convolutions = [
        module
        for module in build_aconvnet(64).modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert [(x.out_channels, x.kernel_size[0], x.padding[0]) for x in convolutions] == [
        (16, 5, 0),
        (32, 5, 0),
        (64, 6, 0),
        (128, 3, 1),
    ]
    assert sum(x.numel() for x in build_aconvnet(64).parameters()) == 161_936


def test_the_padded_network_keeps_the_border_and_has_five_layers():
    network = build_aconvnet(64, is_padded=True).eval()
    assert network.forward_features(torch.zeros(2, 3, 64, 64)).shape == (2, 128, 8, 8)
    assert sum(x.numel() for x in network.parameters()) == 254_352
    backbone = load_backbone(PADDED_NAME, 48)
    assert (
        backbone.vit(torch.zeros(2, 3, 48, 48)).shape == (2, 128) and backbone.is_random
    )
    with pytest.raises(RequestError, match=f"{PADDED_NAME} takes inputs of 32"):
        load_backbone(PADDED_NAME, 24)


@pytest.mark.parametrize("size", [24, 31, 129, 200])
def test_other_sides_are_refused(size):
    with pytest.raises(
        RequestError, match=mentions("32 to 128 pixels", f"not {size}")
    ) as caught:
        load_backbone(NAME, size)
    assert caught.value.location == "data.size" and "data.crop" in caught.value.hint


def test_the_seed_decides_about_the_weights_but_not_about_the_hash():
    before = torch.get_rng_state()
    first = load_backbone(NAME, 48, seed=3)
    again = load_backbone(NAME, 48, seed=3)
    other = load_backbone(NAME, 48, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    states = [backbone.vit.state_dict() for backbone in (first, again, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(
        states[0]["layer1.0.conv1.weight"], states[2]["layer1.0.conv1.weight"]
    )
    assert first.sha256 == other.sha256 == load_backbone(NAME, 32).sha256
    assert first.is_random and not first.vit.training
    assert not any(parameter.requires_grad for parameter in first.vit.parameters())


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_planes(count):
    bands = tuple("abcde"[:count])
    backbone = fit_inputs(load_backbone(NAME, 32), bands, None, "fold")
    conv = backbone.vit.layer1[0].conv1
    assert backbone.bands == bands and len(backbone.mean) == len(backbone.std) == count
    assert (
        conv.weight.shape == (16, count, 5, 5)
        and conv.in_channels == count
        and conv.bias is None
    )
    images = torch.randn(64, count, 32, 32, generator=torch.Generator().manual_seed(0))
    inputs = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = load_backbone(NAME, 32).vit.layer1[0].conv1(inputs).var()
    assert abs(float(conv(images).var() / expected) - 1) < 0.2
    assert backbone.vit(images).shape == (64, 128)


def test_planes_are_those_of_the_recipe():
    backbone = fit_inputs(
        load_backbone(NAME, 32), ("VV", "VH"), ("VV", "VH", "VV - VH"), "fold"
    )
    assert backbone.bands == ("VV", "VH", "VV - VH")
    with pytest.raises(RequestError, match="HH"):
        fit_inputs(load_backbone(NAME, 32), ("VV",), ("HH",), "fold")


@pytest.mark.parametrize(
    "section",
    [
        "method: lora",
        "method: lora, positions: [conv1]",
        "method: linear-probe",
        "method: full, blocks: [3]",
    ],
)
def test_a_method_that_leaves_random_weights_is_refused(tmp_path, section):
    with pytest.raises(RequestError) as caught:
        build_classifier(
            load_backbone(NAME, 32), 3, recipe(tmp_path, f"peft={{{section}}}")
        )
    assert caught.value.hint == "set peft.method=full"


def test_all_weights_of_full_tuning_are_trained(tmp_path):
    section = recipe(tmp_path)
    classifier = build_classifier(load_backbone(NAME, 32), 3, section)
    assert sum(x.numel() for x in classifier.adapted.theta) == 161_936
    with pytest.raises(RequestError, match="no class token") as caught:
        build_classifier(
            load_backbone(NAME, 32), 3, recipe(tmp_path, "backbone.pool=token")
        )
    assert caught.value.hint == "set backbone.pool=avg"


def test_a_file_of_weights_is_no_random_start(tmp_path):
    from safetensors.torch import save_file

    state = load_backbone(NAME, 32, seed=5).vit.state_dict()
    save_file(state, tmp_path / "mine.safetensors")
    backbone = load_backbone(NAME, 48, tmp_path / "mine.safetensors")
    assert not backbone.is_random and backbone.sha256 != load_backbone(NAME, 48).sha256
    assert all(
        torch.equal(value, state[key])
        for key, value in backbone.vit.state_dict().items()
    )
