"""Convert checkpoints to safetensors, and compute what an encoder gives for noise."""

import argparse

import pytest
import timm
import torch
from safetensors import safe_open

from rsft.backbones.loading import (
    Backbone,
    check_encoder,
    convert_weights,
    find_card,
    load_backbone,
    load_encoder_weights,
)
from rsft.errors import RequestError, WeightsError
from rsft.utils.atomic_files import sha256

TINY = "test_vit.r160_in1k"


@pytest.fixture
def source(tmp_path):
    torch.manual_seed(0)
    state = timm.create_model(TINY).half().state_dict()
    torch.save({"state_dict": state, "args": argparse.Namespace()}, tmp_path / "old.pth")
    return tmp_path / "old.pth"


@pytest.mark.slow
def test_only_the_encoder_is_written_with_its_source(source, tmp_path):
    card, target = find_card(TINY), tmp_path / "new.safetensors"
    backbone = convert_weights(card, source, target)
    assert backbone.left_out == ("head.bias", "head.weight")
    with safe_open(target, "pt") as file:
        metadata, names, dtype = file.metadata(), set(file.keys()), file.get_tensor("cls_token").dtype
    assert metadata == {
        "format": "pt",
        "backbone": TINY,
        "encoder_sha256": backbone.sha256,
        "source": "old.pth",
        "source_sha256": sha256(source),
    }
    assert names == set(backbone.vit.state_dict()) and dtype == torch.float16
    again = load_encoder_weights(card, 160, target)
    assert again.sha256 == backbone.sha256 and again.left_out == ()


def test_other_network_writes_nothing(source, tmp_path):
    with pytest.raises(WeightsError, match="tensors of test_vit2"):
        convert_weights(find_card("test_vit2.r160_in1k"), source, tmp_path / "new.safetensors")
    assert list(tmp_path.iterdir()) == [source]


def test_pickle_output_is_refused(source, tmp_path):
    with pytest.raises(RequestError, match=r"not as \.pth"):
        convert_weights(find_card(TINY), source, tmp_path / "new.pth")


def test_the_same_noise_gives_the_same_features():
    backbone = load_backbone("vit_tiny_patch8_64.simship", 64)
    first, second = check_encoder(backbone, 64, 0), check_encoder(backbone, 64, 0)
    assert first.features == second.features and list(first.features) == ["class token", "patch mean"]
    assert first.tokens == 65
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    feature = backbone.vit.forward_features(noise)[:, 0]
    assert abs(first.features["class token"][1] - feature.std().item()) < 1e-5
    assert abs(first.features["class token"][2] - feature.norm(dim=1).mean().item()) < 1e-4


def test_encoder_without_a_class_token():
    vit = timm.create_model("test_vit2", num_classes=0).eval()
    backbone = Backbone("x", "", vit, (0, 0, 0), (1, 1, 1), ("R", "G", "B"), "uint8")
    assert list(check_encoder(backbone, 160, 0).features) == ["patch mean"]
