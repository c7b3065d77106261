"""Describe bundles and contracts."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import softplus

from rsft.backbones.catalog import is_listed
from rsft.data.imagery.stretch import CHIP_MAX, Statistics, Stretch
from rsft.errors import RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection import verify
from rsft.models.inspection.describe import (
    EncoderOrigin,
    describe_bundle,
    describe_contract,
    find_encoder_origin,
    list_modulated_sites,
    mean_scales,
)
from rsft.models.inspection.verify import build_meta_classifier
from rsft.models.loading import load_unmerged_classifier
from rsft.peft.sites import Site
from rsft.recipe.schema import BackboneSection
from tests.helpers.messages import mentions
from tests.helpers.scenes import toy_contract


def test_description_of_a_bundle(run):
    description = describe_bundle(run)
    bundle = Bundle.load(run)
    assert json.loads(json.dumps(description)) is not None
    assert description["classes"] == [
        {"name": "flat", "group": "head", "train": 24},
        {"name": "slanted", "group": "tail", "train": 4},
        {"name": "steep", "group": "tail", "train": 12},
    ]
    assert description["chip"] == {
        "bands": "gray",
        "unit": "uint8",
        "inputs": "gray, repeated",
        "size": (
            "the whole chip (most training chips have 32 x 32 pixels), resized to 32 x"
            " 32 pixels"
        ),
        "spacing": "not checked (the training chips differ in spacing)",
        "stretch": "bytes stay unchanged",
    }
    assert description["backbone"] == {
        "name": "vit_tiny_patch8_64.simship",
        "sha256": bundle.backbone_sha256,
    }
    assert description["bytes"] == sum(
        path.stat().st_size for path in (run / "bundle").iterdir()
    )
    assert description["parameters"] == sum(
        tensor.numel() for tensor in bundle.tensors.values()
    )
    assert (
        description["method"]["method"] == "lora"
        and description["method"]["rank"] == bundle.recipe.peft.rank
    )
    assert description["sha256"] == bundle.sha256 and description["runs"] == 1
    assert (
        description["confidence"]["chips"] == 18
        and description["metrics"] == bundle.metrics
    )


def test_scales_are_those_of_the_modulator(run):
    bundle = Bundle.load(run)
    modulator = load_unmerged_classifier(bundle, "cpu").adapted.modulator
    scales = {
        (block, name): x
        for block, row in describe_bundle(run)["scales"].items()
        for name, x in row.items()
    }
    assert scales == pytest.approx(
        {tuple(site): x for site, x in modulator.scales().items()}, abs=1e-6
    )


def test_scales_of_an_ensemble_are_means_and_pruned_sites_are_zero(run):
    modulator = build_meta_classifier(Bundle.load(run)).adapted.modulator
    count = len(modulator.sites)
    runs = [
        {"gamma": torch.full((count,), 1.0)},
        {"gamma": torch.full((count,), float("-inf"))},
    ]
    (value,) = {
        value
        for row in mean_scales(SimpleNamespace(members=runs), modulator.sites).values()
        for value in row.values()
    }
    assert value == pytest.approx(float(softplus(torch.tensor(1.0))) / 2, abs=1e-6)


def test_a_site_with_several_factors_has_their_mean():
    runs = [{"gamma": torch.tensor([0.0, 2.0, 1.0])}]
    sites = [Site(0, "q"), Site(0, "q"), Site(1, "v")]
    means = softplus(torch.tensor([0.0, 2.0])).mean(), softplus(torch.tensor(1.0))
    assert mean_scales(SimpleNamespace(members=runs), sites) == {
        0: {"q": pytest.approx(float(means[0]), abs=1e-6)},
        1: {"v": pytest.approx(float(means[1]), abs=1e-6)},
    }


def test_tensors_in_bfloat16_are_described(run, tmp_path):
    bundle = Bundle.load(run)
    rounded = {name: x.bfloat16() for name, x in bundle.tensors.items()}
    replace(bundle, tensors=rounded).save(tmp_path)
    description = describe_bundle(tmp_path)
    expected = describe_bundle(run)
    assert description["parameters"] == expected["parameters"]
    assert description["scales"][0] == pytest.approx(expected["scales"][0], rel=0.01)


def test_contract_with_two_bands():
    stretches = (Stretch(low=-25, high=0), Stretch(low=-30, high=-5), CHIP_MAX)
    planes = {
        "units": {"db": stretches},
        "bands": ("VV", "VH"),
        "planes": ("VV", "VH", "VV-VH"),
    }
    description = describe_contract(
        toy_contract(**planes, crop=64, spacing_m=10.0, size=96)
    )
    assert description == {
        "bands": "VV, VH",
        "unit": "db (backscatter sigma0 in decibels)",
        "inputs": "VV, VH, VV-VH",
        "size": "the central 64 x 64 pixels, resized to 96 x 96 pixels",
        "spacing": "10 m per pixel",
        "stretch": (
            "VV: -25 is black, 0 is white; VH: -30 is black, -5 is white; "
            "VV-VH: 0 is black, the maximum of the chip is white"
        ),
    }


def test_contract_with_compressed_and_with_clipped_pixels():
    statistics = [
        Statistics(low=0, high=1, mean=1, std=1, masked=0, clipped=share)
        for share in (0.0, 0.685, 0.685)
    ]
    stretches = (
        Stretch(high=0.25, top=30),
        Stretch(curve="log", low=0.01, high=1),
        Stretch(curve="log", low=0.01, high=1),
    )
    planes = {
        "units": {"sigma0": stretches},
        "bands": ("VV", "VH"),
        "planes": ("VV", "VH", "VH"),
    }
    description = describe_contract(
        toy_contract(**planes, statistics={"sigma0": statistics})
    )
    assert (
        "VV: 0 is black, 30 is white, compressed above 0.25; VH: 0.01 is black, 1 is"
        " white, log between" in description["stretch"]
    )
    assert description["clipping"].endswith(": 68.5% (plane VH); see data.stretch")


def test_contract_that_does_not_use_all_bands():
    description = describe_contract(
        toy_contract(bands=("VH", "VV"), planes=("VV",) * 3)
    )
    assert (
        description["bands"]
        == "VV; the training chips also have VH, which the model does not use"
    )
    assert description["inputs"] == "VV, repeated"


def test_an_encoder_in_rsft_has_no_address():
    origin = find_encoder_origin(BackboneSection())
    assert (
        "simulated optical ships" in origin.about
        and origin.url is None
        and origin.repository is None
    )


def test_an_encoder_of_the_hub_has_a_repository():
    origin = find_encoder_origin(
        BackboneSection(name="ViTSmall16_Weights.LANDSAT_OLI_TIRS_TOA_MOCO")
    )
    assert origin.repository == "torchgeo/ssl4eo_landsat" and str(
        origin.url
    ).startswith("https://huggingface.co/")
    assert (
        find_encoder_origin(
            BackboneSection(name="satmae_vit_large_patch16_224.fmow_rgb")
        ).repository
        is None
    )


def test_nothing_is_known_of_a_file_or_an_unknown_encoder():
    assert find_encoder_origin(BackboneSection(weights="mine.pth")) == EncoderOrigin()
    assert (
        find_encoder_origin(BackboneSection(name="vit_of_tomorrow")) == EncoderOrigin()
    )


def test_names_of_tensors_state_the_sites(run, monkeypatch):
    bundle = Bundle.load(run)
    if not is_listed(bundle.recipe.backbone.name):
        pytest.skip("the shipped list is of other versions of timm and TorchGeo")
    expected = build_meta_classifier(bundle).adapted.modulator.sites
    monkeypatch.setattr(verify, "build_meta_classifier", None)
    assert list_modulated_sites(bundle) == list(expected) and len(expected) == 18


def test_the_network_states_sites_without_tensors(run):
    bundle = Bundle.load(run)
    pruned = replace(
        bundle,
        tensors={
            k: v for k, v in bundle.tensors.items() if not k.startswith("blocks.0.q.")
        },
    )
    assert list_modulated_sites(pruned) == list_modulated_sites(bundle)


def test_an_unknown_backbone_is_refused(run):
    bundle = Bundle.load(run)
    backbone = bundle.recipe.backbone.model_copy(update={"name": "vit_unknown"})
    unknown = bundle.recipe.model_copy(update={"backbone": backbone})
    with pytest.raises(RequestError, match=mentions("no backbone", "'vit_unknown'")):
        list_modulated_sites(replace(bundle, recipe=unknown))


def test_without_a_modulator_there_are_no_sites(run):
    bundle = Bundle.load(run)
    plain = bundle.recipe.model_copy(update={"meta": None})
    tensors = {"head.weight": torch.zeros(3, 4)}
    unmodulated = replace(bundle, recipe=plain, tensors=tensors)
    assert list_modulated_sites(unmodulated) == []
    assert mean_scales(unmodulated, []) == {}
