"""DOFA with the filters of some bands, with fewer and narrower blocks in place of the
real ones."""

import importlib
import os
from dataclasses import replace
from functools import partial

import pytest
import torch
from torchgeo.models import DOFABase16_Weights, DOFALarge16_Weights
from torchgeo.models.dofa import DOFA

from rsft.backbones.convert import convert_weights
from rsft.backbones.input_layer import fit_inputs
from rsft.backbones.loading import find_card, load_encoder_weights
from rsft.errors import RequestError, WeightsError
from rsft.peft import LoRA, attach
from rsft.peft.kernels import is_standard_block
from rsft.plugins.encoders import dofa
from tests.helpers.messages import mentions

CARDS = {card.name: card for card in dofa.CARDS}
RADAR, OPTICAL = (
    CARDS[f"dofa_vit_base_patch16_224.sentinel{number}"] for number in (1, 2)
)
SIZES = {"embed_dim": 64, "depth": 2, "num_heads": 4}
WAVELENGTHS = {
    RADAR: [3.75, 3.75],
    OPTICAL: [0.665, 0.56, 0.49, 0.705, 0.74, 0.783, 0.842, 1.61, 2.19],
}


def small(card):
    return replace(
        card, build=partial(dofa.build_dofa_vit, card.name, SIZES, len(card.bands))
    )


def torchgeo_network(size=48):
    torch.manual_seed(0)
    network = DOFA(img_size=size, num_classes=0, **SIZES).eval()
    # its own start is zero in places, and its filters are close to zero
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.nn.init.ones_(network.fc_norm.weight)
    torch.nn.init.zeros_(network.fc_norm.bias)
    return network


@pytest.fixture
def path(tmp_path):
    """Return a file in the published layout, without the last norm."""
    state = torchgeo_network().state_dict()
    torch.save(
        {name: tensor for name, tensor in state.items() if "fc_norm" not in name},
        tmp_path / "dofa.pth",
    )
    return tmp_path / "dofa.pth"


def images(card, size=48):
    return torch.randn(
        2, len(card.bands), size, size, generator=torch.Generator().manual_seed(1)
    )


def features(vit, x):
    """Return what the published code returns."""
    with torch.inference_mode():
        return vit.fc_norm(vit.forward_features(x)[:, 1:].mean(1))


@pytest.mark.parametrize("card", [RADAR, OPTICAL], ids=["sentinel1", "sentinel2"])
def test_features_match_torchgeo(card, path):
    vit = load_encoder_weights(small(card), 48, path).vit
    with torch.inference_mode():
        expected = torchgeo_network().forward_features(images(card), WAVELENGTHS[card])
    assert (
        expected.std() > 0.1
        and (features(vit, images(card)) - expected).abs().max() <= 1e-5
    )


@pytest.mark.authors
@pytest.mark.parametrize("card", [RADAR, OPTICAL], ids=["sentinel1", "sentinel2"])
def test_features_match_the_authors_code(card, path, monkeypatch):
    if not (checkout := os.environ.get("RSFT_DOFA")):
        pytest.skip("no checkout of https://github.com/zhu-xlab/DOFA: set RSFT_DOFA")
    monkeypatch.syspath_prepend(checkout)
    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    network = (
        importlib.import_module("dofa_v1")
        .OFAViT(img_size=48, num_classes=0, norm_layer=norm, **SIZES)
        .eval()
    )
    network.load_state_dict(torchgeo_network().state_dict())
    with torch.inference_mode():
        expected = network.forward_features(images(card), WAVELENGTHS[card])
    vit = load_encoder_weights(small(card), 48, path).vit
    assert (features(vit, images(card)) - expected).abs().max() <= 1e-5


def test_both_bands_of_sentinel1_have_the_same_filters(path):
    weight = load_encoder_weights(small(RADAR), 48, path).vit.patch_embed.proj.weight
    assert torch.equal(weight[:, 0], weight[:, 1])
    weight = load_encoder_weights(small(OPTICAL), 48, path).vit.patch_embed.proj.weight
    assert not torch.allclose(weight[:, 0], weight[:, 1])


def test_a_last_norm_in_the_file_is_loaded(path, tmp_path):
    state = torch.load(path) | {
        "fc_norm.weight": torch.full((64,), 2.0),
        "fc_norm.bias": torch.ones(64),
    }
    torch.save(state, tmp_path / "tuned.pth")
    assert (
        load_encoder_weights(small(RADAR), 48, tmp_path / "tuned.pth")
        .vit.fc_norm.weight.eq(2)
        .all()
    )
    assert load_encoder_weights(small(RADAR), 48, path).vit.fc_norm.weight.eq(1).all()


@pytest.mark.slow
def test_converted_weights_are_the_same_encoder(path, tmp_path):
    card = replace(small(RADAR), size=48)
    backbone = convert_weights(card, path, tmp_path / "radar.safetensors")
    assert (
        load_encoder_weights(card, 48, tmp_path / "radar.safetensors").sha256
        == backbone.sha256
    )
    assert backbone.sha256 != load_encoder_weights(small(OPTICAL), 48, path).sha256


def test_the_layout_of_the_authors(path, tmp_path):
    surplus = {
        "mask_token": torch.ones(1, 1, 8),
        "norm.weight": torch.ones(64),
        "projector.weight": torch.ones(4, 64),
    }
    torch.save(torch.load(path) | surplus, tmp_path / "authors.pth")
    backbone = load_encoder_weights(small(RADAR), 48, tmp_path / "authors.pth")
    assert backbone.sha256 == load_encoder_weights(small(RADAR), 48, path).sha256
    assert set(surplus) <= set(backbone.left_out)


@pytest.mark.parametrize(
    "name", ["fclayer.w1.weight", "weight_generator.weight_tokens"]
)
def test_an_incomplete_generator_is_refused(name, path, tmp_path):
    state = torch.load(path)
    del state[f"patch_embed.{name}"]
    torch.save(state, tmp_path / "incomplete.pth")
    with pytest.raises(
        WeightsError,
        match=mentions(
            "missing: patch_embed.proj.weight", "not expected: patch_embed."
        ),
    ):
        load_encoder_weights(small(RADAR), 48, tmp_path / "incomplete.pth")


def test_other_sizes(path):
    assert load_encoder_weights(small(RADAR), 96, path).vit(
        images(RADAR, 96)
    ).shape == (2, 64)
    with pytest.raises(RequestError, match=mentions("multiples of 16", "not 100")):
        RADAR.build(100)


def test_sites_merge_and_kernel(path):
    vit = load_encoder_weights(small(RADAR), 48, path).vit
    assert is_standard_block(vit.blocks[0])
    adapted = attach(vit, LoRA(rank=2, positions="qkvo12"))
    assert len(adapted.sites) == 12
    with torch.no_grad():
        for parameter in adapted.theta:
            parameter.normal_(std=0.1)
        before = adapted.forward_features(images(RADAR))
        assert (
            adapted.merge().forward_features(images(RADAR)) - before
        ).abs().max() <= 1e-4


def test_planes_of_a_recipe(path):
    backbone = load_encoder_weights(small(RADAR), 48, path)
    x = images(RADAR)[:, :1]
    with torch.inference_mode():
        expected = backbone.vit.forward_features(x.repeat(1, 2, 1, 1))
    same = replace(backbone, mean=(0.5, 0.5), std=(0.2, 0.2))
    folded = fit_inputs(same, ("VV",), ("VV", "VV"), "fold")
    assert folded.bands == ("VV",)
    torch.testing.assert_close(
        folded.vit.forward_features(x), expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.slow
def test_cards():
    for card in dofa.CARDS:
        weights = DOFABase16_Weights if "base" in card.name else DOFALarge16_Weights
        published = weights.DOFA_MAE.url.replace(
            "https://hf.co/", "https://huggingface.co/"
        )
        assert card.weights.url == published and card.weights.sha256 in published
        assert find_card(card.name) is card and card.restrictions == ()
    assert (RADAR.bands, RADAR.unit) == (("VV", "VH"), "uint8")
    assert RADAR.mean == pytest.approx((166.36275909 / 255, 88.45542715 / 255))
    assert OPTICAL.unit == "uint16" and OPTICAL.mean[0] == pytest.approx(114.1099739)
    assert OPTICAL.std[3] == pytest.approx(32 * 64.57022983)
    with torch.device("meta"):
        parameters = [
            sum(x.numel() for x in card.build(224).parameters()) for card in dofa.CARDS
        ]
    embeddings = [
        len(card.bands) * 256 * width
        for card, width in zip(dofa.CARDS, (768, 768, 1024, 1024), strict=True)
    ]
    # of MAE, less its filters
    plain = [
        85_798_656 - 768 * 768,
        303_301_632 - 768 * 1024,
    ]
    expected = [number + plain[index // 2] for index, number in enumerate(embeddings)]
    assert parameters == expected
