"""Cards from timm's registry, and checkpoints in the form of its hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from rsft.backbones import timm_vits
from rsft.backbones.card import Card, Remote
from rsft.backbones.loading import load_encoder_weights
from rsft.errors import RequestError, WeightsError
from tests.helpers.messages import mentions

TINY = "test_vit.r160_in1k"
"""A test network of timm. test_vit2 has mean pooling before its last norm, and test_vit3 attention pooling."""


def card_of(name: str) -> Card:
    card = timm_vits.timm_card(name)
    assert card is not None
    return card


def stored(path: Path, name: str) -> tuple[Path, torch.nn.Module]:
    """Write a classifier as on the hub; return the path and the model."""
    torch.manual_seed(0)
    model = timm.create_model(name).eval()
    save_file(model.state_dict(), path)
    return path, model


def test_card_of_a_listed_name() -> None:
    card = card_of("vit_base_patch16_224.augreg_in21k")
    assert (card.size, card.patch, card.bands, card.unit) == (224, 16, ("R", "G", "B"), "uint8")
    assert (card.mean, card.std, card.license) == ((0.5,) * 3, (0.5,) * 3, "apache-2.0")
    page = "https://huggingface.co/timm/vit_base_patch16_224.augreg_in21k"
    url = f"{page}/resolve/main/model.safetensors"
    assert card.weights == Remote("vit_base_patch16_224.augreg_in21k.safetensors", url, None, None, page)


@pytest.mark.slow
def test_every_listed_name_has_a_card_with_a_unique_file() -> None:
    cards = [timm_vits.timm_card(name) for name in timm_vits.NAMES]
    assert [card and card.name for card in cards] == list(timm_vits.NAMES)
    assert len({card.weights.file for card in cards if card and isinstance(card.weights, Remote)}) == len(cards)


def test_name_without_a_tag_gets_the_default_tag() -> None:
    card = card_of("test_vit")
    assert card.name == TINY


@pytest.mark.slow
def test_native_size_is_a_multiple_of_the_patch() -> None:
    card = card_of("vit_so400m_patch14_siglip_384.webli")
    assert (card.size, card.patch) == (378, 14)


@pytest.mark.parametrize("name", [TINY, "test_vit2.r160_in1k", "test_vit3.r160_in1k"])
@pytest.mark.parametrize("size", [160, 96])
def test_hub_file_loads_without_its_classifier(tmp_path: Path, name: str, size: int) -> None:
    card = card_of(name)
    path, model = stored(tmp_path / "x.safetensors", name)
    backbone = load_encoder_weights(card, size, path)
    assert backbone.left_out == ("head.bias", "head.weight")
    assert len(backbone.vit.state_dict()) == len(model.state_dict()) - 2
    if size == 160:
        image = torch.randn(1, 3, size, size)
        torch.testing.assert_close(backbone.vit.forward_features(image), model.forward_features(image))
    else:
        assert backbone.vit.forward_features(torch.zeros(1, 3, size, size)).shape == (1, 37, backbone.width)


def test_both_heads_of_a_distilled_model_are_expected() -> None:
    card = card_of("deit_tiny_distilled_patch16_224.fb_in1k")
    names = ("head.weight", "head_dist.bias", "dist_token", "head_other", "mask_token")
    assert list(card.convert({name: torch.zeros(1) for name in names})) == ["dist_token", "head_other"]


def test_other_layout_is_refused_with_counts(tmp_path: Path) -> None:
    card = card_of(TINY)
    state = {f"visual.trunk.{name}": value for name, value in timm.create_model(TINY).state_dict().items()}
    state["cls_token"] = torch.zeros(1, 1, 64)
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=mentions("1 of the 78", "and 74 more", "not expected: visual")):
        load_encoder_weights(card, 160, tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dm_nfnet_f0.dm_in1k", "it has no blocks"),
        ("hiera_tiny_224.mae", "it has no patch_embed.patch_size"),
        ("samvit_base_patch16.sa1b", "it has no num_prefix_tokens"),
        ("timm:vit_base_patch16_xp_224", "blocks.0 has no linear layer attn.qkv or attn.q_proj"),
        ("timm:vitamin_base_224", "blocks.0 has no linear layer mlp.fc2"),
        ("timm:deepseek_vit_412m_enc", "its forward_features returns (1, 39, 39, 1024), not tokens (1, 1521, 1024)"),
        ("vit_huge_patch14_gap_224.in1k_ijepa", "no weights of vit_huge_patch14_gap_224.in1k_ijepa on the hub"),
        ("vit_base_patch16_224.nope", "augreg_in21k"),
    ],
)
def test_unsupported_networks_are_refused_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        timm_vits.timm_card(name)
    assert message in str(caught.value)


def test_names_of_other_sources_have_no_timm_card() -> None:
    assert timm_vits.timm_card("vit_tiny_patch8_64.simship") is None
    assert timm_vits.timm_card("torchgeo:ViTSmall16_Weights.SENTINEL1_GRD_MAE") is None


def test_built_weights_are_random_or_on_the_meta_device() -> None:
    card = card_of(TINY)
    assert card.build(160).patch_embed.proj.weight.std() > 0
    with torch.device("meta"):
        assert card.build(160).pos_embed.is_meta
