"""Describe bundles and contracts."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import softplus

from rsft.data.imagery.contract import CHIP_MAX, Stretch
from rsft.models.bundle.bundle import Bundle
from rsft.models.factory import load_unmerged_classifier
from rsft.models.inspection.describe import describe_bundle, describe_contract, mean_scales
from rsft.models.inspection.verify import build_meta_model
from tests.helpers.scenes import toy_contract


def test_description_of_a_bundle(run):
    description, bundle = describe_bundle(run), Bundle.load(run)
    assert json.loads(json.dumps(description)) is not None
    assert description["classes"] == [
        {"name": "flat", "group": "medium", "train": 24},
        {"name": "slanted", "group": "tail", "train": 4},
        {"name": "steep", "group": "tail", "train": 12},
    ]
    assert description["chip"] == {
        "bands": "gray",
        "unit": "uint8",
        "inputs": "gray, repeated",
        "size": "the whole chip, resized to 32 x 32 pixels",
        "spacing": "not checked (the training chips differ in spacing)",
        "stretch": "bytes stay unchanged",
    }
    assert description["backbone"] == {"name": "vit_tiny_patch8_64.simship", "sha256": bundle.backbone_sha256}
    assert description["bytes"] == sum(path.stat().st_size for path in (run / "bundle").iterdir())
    assert description["parameters"] == sum(tensor.numel() for tensor in bundle.tensors.values())
    assert description["method"]["method"] == "lora" and description["method"]["rank"] == bundle.recipe.peft.rank
    assert description["sha256"] == bundle.sha256 and description["runs"] == 1
    assert description["confidence"]["chips"] == 18 and description["metrics"] == bundle.metrics


def test_scales_are_those_of_the_modulator(run):
    bundle = Bundle.load(run)
    modulator = load_unmerged_classifier(bundle, "cpu").adapted.modulator
    scales = describe_bundle(run)["scales"]
    assert {(block, name): value for block, row in scales.items() for name, value in row.items()} == {
        tuple(site): pytest.approx(value, abs=1e-6) for site, value in modulator.scales().items()
    }


def test_scales_of_an_ensemble_are_means_and_pruned_sites_are_zero(run):
    sites = build_meta_model(Bundle.load(run)).sites
    count = len(sites)
    runs = [{"gamma": torch.full((count,), 1.0)}, {"gamma": torch.full((count,), float("-inf"))}]
    (value,) = {value for row in mean_scales(SimpleNamespace(members=runs), sites).values() for value in row.values()}
    assert value == pytest.approx(float(softplus(torch.tensor(1.0))) / 2, abs=1e-6)


def test_contract_with_two_bands():
    stretches = (Stretch(low=-25, high=0), Stretch(low=-30, high=-5), CHIP_MAX)
    description = describe_contract(
        toy_contract(
            units={"db": stretches}, bands=("VV", "VH"), planes=("VV", "VH", "VV-VH"), crop=64, spacing_m=10.0, size=96
        )
    )
    assert description == {
        "bands": "VV, VH",
        "unit": "db",
        "inputs": "VV, VH, VV-VH",
        "size": "the central 64 x 64 pixels, resized to 96 x 96 pixels",
        "spacing": "10 m per pixel",
        "stretch": "VV: -25 is black, 0 is white; VH: -30 is black, -5 is white; "
        "VV-VH: 0 is black, the maximum of the chip is white",
    }


def test_contract_that_does_not_use_all_bands():
    description = describe_contract(toy_contract(bands=("VH", "VV"), planes=("VV",) * 3))
    assert description["bands"] == "VV; the training chips also have VH, which the model does not use"
    assert description["inputs"] == "VV, repeated"
