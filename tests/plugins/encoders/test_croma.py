"""CROMA's encoder of Sentinel-1, with fewer and narrower blocks in place of the real
ones."""

import importlib
import os
from dataclasses import replace
from functools import partial

import pytest
import torch
from torchgeo.models import CROMABase_Weights, CROMALarge_Weights
from torchgeo.models.croma import CROMA, ViT

from rsft.backbones.convert import convert_weights
from rsft.backbones.loading import find_card, load_encoder_weights
from rsft.errors import RequestError, WeightsError
from rsft.models.loading import build_classifier
from rsft.peft import LoRA, attach
from rsft.peft.kernels import is_standard_block
from rsft.peft.methods.registry import METHODS
from rsft.plugins.encoders import croma
from rsft.recipe.load import load_recipe
from tests.helpers.messages import mentions

BASE, LARGE = croma.CARDS
SIZES = {"embed_dim": 64, "depth": 2, "num_heads": 16}
SMALL = replace(BASE, build=partial(croma.build_croma_vit, BASE.name, **SIZES))


def torchgeo_network(size=24, modalities=("sar", "optical")):
    torch.manual_seed(0)
    return CROMA(
        modalities, encoder_dim=64, encoder_depth=4, num_heads=16, image_size=size
    ).eval()


def write(path, network):
    """Write a file in the published layout: one mapping per part of the network."""
    parts = ("s1_encoder", "s1_GAP_FFN", "s2_encoder", "s2_GAP_FFN", "joint_encoder")
    torch.save(
        {
            part: getattr(network, part).state_dict()
            for part in parts
            if hasattr(network, part)
        },
        path,
    )
    return path


def images(size=24):
    return torch.rand(2, 2, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "CROMA_base-0238d814.pt", torchgeo_network())


@pytest.mark.parametrize("size", [16, 24, 40])
def test_features_match_torchgeo(path, size):
    vit = load_encoder_weights(SMALL, size, path).vit
    network = torchgeo_network(size)
    with torch.inference_mode():
        tokens = vit.forward_features(images(size))
        expected = network(images(size), torch.zeros(2, 12, size, size))
        assert (tokens - expected["sar_encodings"]).abs().max() <= 1e-5
        assert (vit.fc_norm(tokens.mean(1)) - expected["sar_GAP"]).abs().max() <= 1e-5
        assert (vit(images(size)) - expected["sar_GAP"]).abs().max() <= 1e-5


@pytest.mark.authors
def test_features_match_the_authors_code(path, monkeypatch):
    if not (checkout := os.environ.get("RSFT_CROMA")):
        pytest.skip(
            "no checkout of https://github.com/antofuller/CROMA: set RSFT_CROMA"
        )
    monkeypatch.syspath_prepend(checkout)
    code = importlib.import_module("use_croma")
    encoder = code.ViT(dim=64, depth=2, in_channels=2).eval()
    encoder.load_state_dict(torchgeo_network().s1_encoder.state_dict())
    vit = load_encoder_weights(SMALL, 24, path).vit
    with torch.inference_mode():
        expected = encoder(
            imgs=images(), attn_bias=code.get_2dalibi(num_heads=16, num_patches=9)
        )
        assert (vit.forward_features(images()) - expected).abs().max() <= 1e-5


def test_the_bias_depends_on_the_distance(path):
    network = torchgeo_network(40)
    attention = load_encoder_weights(SMALL, 40, path).vit.blocks[0].attn
    slopes = 2.0 ** (-torch.arange(1, 17) / 2)
    torch.testing.assert_close(
        -slopes[:, None, None] * attention.distances, network.attn_bias[0]
    )


def test_every_tensor_is_loaded_or_left_out(path):
    backbone = load_encoder_weights(SMALL, 24, path)
    stored = torch.load(path)
    assert len(backbone.vit.state_dict()) == sum(
        len(stored[part]) for part in ("s1_encoder", "s1_GAP_FFN")
    )
    assert {name.partition(".")[0] for name in backbone.left_out} == {
        "s2_encoder",
        "s2_GAP_FFN",
        "joint_encoder",
    }
    assert backbone.license == "CC-BY-4.0" and (backbone.bands, backbone.unit) == (
        ("VV", "VH"),
        "db",
    )


def test_converted_weights_are_the_same_encoder(path, tmp_path):
    small = replace(SMALL, size=24)
    backbone = convert_weights(small, path, tmp_path / "s1.safetensors")
    assert (
        load_encoder_weights(small, 24, tmp_path / "s1.safetensors").sha256
        == backbone.sha256
    )


def test_other_files_are_refused(path, tmp_path):
    stored = torch.load(path)
    del stored["s1_GAP_FFN"]
    torch.save(stored, tmp_path / "incomplete.pt")
    with pytest.raises(
        WeightsError, match=mentions("26 of the 32", "missing: fc_norm.0.weight")
    ):
        load_encoder_weights(SMALL, 24, tmp_path / "incomplete.pt")
    torch.save({"s1_encoder": {"x": torch.ones(1)}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=mentions("not expected: s1_encoder.x")):
        load_encoder_weights(SMALL, 24, tmp_path / "other.pt")
    with pytest.raises(RequestError, match=mentions("multiples of 8", "not 100")):
        BASE.build(100)


def test_sites_merge_and_gradients(path):
    adapted = attach(
        load_encoder_weights(SMALL, 24, path).vit,
        LoRA(rank=2, positions="qkvo12"),
        learn_scales=True,
    )
    assert [site.position for site in adapted.sites] == [
        "q",
        "k",
        "v",
        "out",
        "mlp1",
        "mlp2",
    ] * 2
    with torch.no_grad():
        for parameter in adapted.theta:
            parameter.normal_(std=0.1)
    plain = attach(
        load_encoder_weights(SMALL, 24, path).vit,
        adapted.method,
        learn_scales=True,
        kernels=False,
    )
    plain.load_adapter_state(adapted.adapter_state())
    gradients = [
        torch.autograd.grad(x.forward_features(images()).square().mean(), x.theta)
        for x in (adapted, plain)
    ]
    for own, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(own, expected, atol=1e-6, rtol=1e-4)
    with torch.no_grad():
        before = adapted.forward_features(images())
        difference = (adapted.merge().forward_features(images()) - before).abs().max()
    assert difference <= 1e-5 and not adapted.unmerged


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_trains_and_merges(name, path):
    adapted = attach(load_encoder_weights(SMALL, 24, path).vit, METHODS[name]())
    if adapted.theta:
        adapted.train().forward_features(images()).square().mean().backward()
        assert any(
            bool(parameter.grad.any())
            for parameter in adapted.theta
            if parameter.grad is not None
        )
    adapted.eval()
    with torch.no_grad():
        for parameter in adapted.theta:
            parameter.add_(0.05 * torch.randn_like(parameter))
        before = adapted.forward_features(images())
        assert adapted.patch_tokens(before).shape[1:] == (9, 64)
        assert (adapted.merge().forward_features(images()) - before).abs().max() <= 1e-4


@pytest.mark.exhaustive
def test_a_recipe_must_pool_the_patches(path, tmp_path):
    recipe = tmp_path / "croma.yaml"
    recipe.write_text(
        f"data: {{root: x, size: 24}}\nbackbone: {{name: {BASE.name}}}\npeft: {{method:"
        " lora}\ntrain: {epochs: 1}\n"
    )
    with pytest.raises(RequestError, match="no class token") as caught:
        build_classifier(load_encoder_weights(SMALL, 24, path), 3, load_recipe(recipe))
    assert caught.value.hint == "set backbone.pool=avg"
    classifier = build_classifier(
        load_encoder_weights(SMALL, 24, path),
        3,
        load_recipe(recipe, ["backbone.pool=avg"]),
    )
    with torch.no_grad():
        expected = torchgeo_network(24, ["sar"])(images())["sar_GAP"]
        torch.testing.assert_close(
            classifier.features(images()), expected, atol=1e-5, rtol=0
        )


def test_the_block_kernel_refuses_the_bias(path):
    """It has no argument for a bias, so blocks run by autograd, and only their layers
    by hand-written gradients."""
    vit = load_encoder_weights(SMALL, 24, path).vit
    assert not is_standard_block(vit.blocks[0])
    adapted = attach(vit, LoRA(rank=2, positions="qv"))
    # whether the kernels run is seen in no output
    assert not adapted._runner.uses_kernel(0) and adapted._runner.stages.runs_by_stage


def test_autocast(path):
    vit = load_encoder_weights(SMALL, 24, path).vit
    with torch.inference_mode():
        expected = vit.forward_features(images())
        with torch.autocast("cpu", torch.bfloat16):
            assert (vit.forward_features(images()) - expected).abs().max() < 0.1


@pytest.mark.slow
def test_the_trace_equals_the_network(path):
    vit = load_encoder_weights(SMALL, 24, path).vit
    program = torch.export.export(vit, (images(),), strict=False)
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(images()), vit(images()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("card", "weights"), [(BASE, CROMABase_Weights), (LARGE, CROMALarge_Weights)]
)
def test_cards(card, weights):
    assert find_card(card.name) is card and card.restrictions == ()
    published = weights.CROMA_VIT.url.replace(
        "https://hf.co/", "https://huggingface.co/"
    )
    assert card.weights.url == published and card.weights.sha256 in published
    assert card.mean == pytest.approx([-12.59 - 2 * 5.26, -20.26 - 2 * 5.91])
    assert card.std == pytest.approx([4 * 5.26, 4 * 5.91])
    with torch.device("meta"):
        vit = card.build(120)
        width = vit.embed_dim
        expected = ViT(dim=width, depth=len(vit.blocks), in_channels=2)
    assert vit.forward_features(torch.empty(1, 2, 120, 120, device="meta")).shape == (
        1,
        225,
        width,
    )
    head = 2 * width + 8 * width**2 + 5 * width  # of s1_GAP_FFN
    assert sum(x.numel() for x in vit.parameters()) == head + sum(
        x.numel() for x in expected.parameters()
    )
