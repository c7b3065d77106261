"""Find and load encoders by name."""

from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from rsft.backbones import load_backbone, names, simship
from rsft.backbones.catalog import search_listing
from rsft.backbones.convert import convert_weights
from rsft.backbones.loading import find_card
from rsft.errors import RequestError, WeightsError
from rsft.utils.licenses import RESTRICTIONS
from tests.helpers.messages import mentions
from tests.helpers.versions import needs

SHIPPED = "vit_tiny_patch8_64.simship"


@needs("timm", "1.0.31")
def test_cards_are_complete():
    for name in names():
        card = find_card(name)
        assert card.name == name and card.about and card.license
        assert len(card.bands) == len(card.mean) == len(card.std)
        assert card.size % card.patch == 0
        assert card.sensor and set(card.restrictions) <= set(RESTRICTIONS)


def test_licenses_of_every_source():
    expected = {
        SHIPPED: (),
        "satmae_vit_large_patch16_224.fmow_rgb": ("non-commercial", "unknown"),
        "sarmae_vit_base_patch16_224.sar1m": ("non-commercial", "unknown"),
        "vit_base_patch16_224.augreg_in21k": (),
        "vit_base_patch16_224.mae": ("non-commercial",),
        "ViTSmall16_Weights.SENTINEL1_GRD_MAE": (),
        "ViTSmall16_Weights.SENTINEL2_ALL_CLOSP": ("listed-uses",),
        "vit_large_patch16_dinov3.sat493m": (
            "no-military",
            "no-weapons",
            "no-nuclear",
            "no-espionage",
        ),
        "ScaleMAELarge16_Weights.FMOW_RGB": ("non-commercial",),
    }
    assert {name: find_card(name).restrictions for name in expected} == expected


def test_search():
    sarmae = [f"sarmae_vit_{kind}_patch16_224.sar1m" for kind in ("base", "large")]
    assert [card.name for card in search_listing("SAR-1M")] == sarmae
    assert {card.license for card in search_listing("listed-uses")} == {
        "CreativeML-OpenRAIL-M"
    }
    listed = [card.name for card in search_listing("")]
    # other versions may lack some
    assert listed == [name for name in names() if name in listed]
    unlisted = "vit_base_patch8_224.augreg_in21k"  # of timm
    assert [card.name for card in search_listing(unlisted)] == [unlisted]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("sentinl1", r"no encoder is called 'sentinl1'.*the nearest are SENTINEL1"),
        ("simshp", "the nearest are simship"),
        (
            "ViTSmall16_Weights.SENTINEL1_GRD_DINO",
            "the nearest are .*ViTSmall16_Weights.SENTINEL1_GRD",
        ),
        ("?", "`rsft backbones ls` lists all encoders"),
        ("mobilenetv3_small_100", "cannot be fine-tuned"),
        ("EarthLoc_Weights.SENTINEL2_RESNET50", "its network is not a timm model"),
    ],
)
def test_search_without_a_match(word, message):
    with pytest.raises(RequestError, match=message):
        search_listing(word)


def test_names_that_are_not_listed():
    assert "vit_base_patch8_224.augreg_in21k" not in names()
    assert find_card("vit_base_patch8_224.augreg_in21k").patch == 8
    assert find_card("torchgeo:ViTSmall16_Weights.SENTINEL1_GRD_MAE").bands == (
        "VV",
        "VH",
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("vit_tiny_patch8_64.simshp", r"the nearest are .*vit_tiny_patch8_64\.simship"),
        ("satmae_vit_large", r"the nearest are .*satmae_vit_large_patch"),
        ("", "rsft backbones ls"),
    ],
)
def test_unknown_name(name, hint):
    with pytest.raises(RequestError, match=hint):
        find_card(name)


@pytest.mark.slow
def test_any_plain_timm_vit_with_a_local_file(tmp_path, monkeypatch):
    # without weights on the hub
    card = find_card("timm:vit_huge_patch14_gap_224.in1k_ijepa")
    assert (
        card.name.startswith("timm:") and card.patch == 14 and card.license == "unknown"
    )
    with pytest.raises(WeightsError, match=mentions("backbone.weights")):
        load_backbone("timm:test_vit", 160)
    torch.manual_seed(0)
    complete = timm.create_model("test_vit")
    safetensors.torch.save_file(
        complete.state_dict(), tmp_path / "complete.safetensors"
    )
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    # a path relative to the weights folder
    loaded = load_backbone("timm:test_vit", 160, Path("complete.safetensors"))
    assert loaded.name == "timm:test_vit" and loaded.left_out == (
        "head.bias",
        "head.weight",
    )
    image = torch.randn(1, 3, 160, 160)
    torch.testing.assert_close(
        loaded.vit.forward_features(image), complete.eval().forward_features(image)
    )


def test_only_the_first_blocks(tmp_path):
    torch.manual_seed(0)
    complete = timm.create_model("test_vit").eval()  # of 6 blocks
    safetensors.torch.save_file(
        complete.state_dict(), tmp_path / "complete.safetensors"
    )
    first = load_backbone(
        "timm:test_vit", 160, tmp_path / "complete.safetensors", blocks=2
    )
    assert len(first.vit.blocks) == 2 and "blocks.5.mlp.fc1.bias" in first.left_out
    image = torch.randn(1, 3, 160, 160)
    options = {"norm": True, "intermediates_only": True, "output_fmt": "NLC"}
    (expected,) = complete.forward_intermediates(image, indices=[1], **options)
    torch.testing.assert_close(first.vit.forward_features(image)[:, 1:], expected)
    safetensors.torch.save_file(first.vit.state_dict(), tmp_path / "cut.safetensors")
    cut = load_backbone("timm:test_vit", 160, tmp_path / "cut.safetensors", blocks=2)
    assert cut.sha256 == first.sha256 and cut.left_out == ()
    with pytest.raises(RequestError, match=mentions("6 blocks", "not 7")):
        load_backbone("timm:test_vit", 160, tmp_path / "complete.safetensors", blocks=7)


@pytest.mark.slow
def test_license_belongs_to_the_published_file(tmp_path):
    assert load_backbone(SHIPPED, 64).license == "MIT"
    state = load_backbone(SHIPPED, 64).vit.state_dict()
    safetensors.torch.save_file(state, tmp_path / "mine.safetensors")
    backbone = load_backbone(SHIPPED, 64, tmp_path / "mine.safetensors")
    assert backbone.license == "unknown; the weights are those of mine.safetensors"
    convert_weights(
        find_card(SHIPPED),
        tmp_path / "mine.safetensors",
        tmp_path / "named.safetensors",
    )
    assert load_backbone(SHIPPED, 64, tmp_path / "named.safetensors").license == "MIT"
    safetensors.torch.save_file(state, tmp_path / simship.WEIGHTS.name)
    assert load_backbone(SHIPPED, 64, tmp_path / simship.WEIGHTS.name).license == "MIT"


def test_missing_weights_name_the_download(tmp_path, monkeypatch):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"fmow_pretrain\.pth"):
        load_backbone("satmae_vit_large_patch16_224.fmow_rgb", 224)


@pytest.mark.parametrize(
    ("name", "patch", "size"),
    [(SHIPPED, 8, 0), (SHIPPED, 8, -8), (SHIPPED, 8, 60), ("satmae_vit_large_patch16_224.fmow_rgb", 16, 100),
     ("satmae_vit_base_patch8_96.fmow_sentinel", 8, 100), ("test_vit.r160_in1k", 16, 100)],
)  # fmt: skip
def test_size_must_be_a_multiple_of_the_patch(name, patch, size):
    with pytest.raises(
        RequestError, match=mentions(f"multiples of {patch}", f"not {size}")
    ):
        find_card(name).build(size)


@pytest.mark.parametrize(
    ("name", "tensors", "parameters", "positions"),
    [
        ("sarmae_vit_base_patch16_224.sar1m", 150, 85_798_656, (1, 197, 768)),
        ("sarmae_vit_large_patch16_224.sar1m", 294, 303_301_632, (1, 197, 1024)),
        ("satmae_vit_large_patch16_224.fmow_rgb", 294, 303_301_632, (1, 197, 1024)),
        ("satmae_vit_large_patch16_224.fmow_rgb_ft", 294, 303_301_632, (1, 197, 1024)),
        ("satmae_vit_large_patch8_96.fmow_sentinel", 300, 303_083_264, (1, 145, 768)),
        ("satmae_vit_base_patch8_96.fmow_sentinel_ft", 156, 85_625_856, (1, 145, 512)),
    ],
)
def test_real_architectures(name, tensors, parameters, positions):
    card = find_card(name)
    with torch.device("meta"):
        vit = card.build(card.size)
    assert (
        len(vit.state_dict()) == tensors
        and sum(value.numel() for value in vit.parameters()) == parameters
    )
    assert vit.pos_embed.shape == positions
    assert {
        module.eps for module in vit.modules() if isinstance(module, torch.nn.LayerNorm)
    } == {1e-6}
