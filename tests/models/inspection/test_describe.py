"""Describe bundles and contracts."""

import json
from dataclasses import replace

from rsft.data.imagery.stretch import CHIP_MAX, Statistics, Stretch
from rsft.models.bundle.bundle import Bundle
from rsft.models.inspection.describe import (
    EncoderOrigin,
    describe_bundle,
    describe_contract,
    find_encoder_origin,
)
from rsft.recipe.schema import BackboneSection
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
        "spacing": "not checked (unknown, or not that of all training chips)",
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


def test_tensors_in_bfloat16_are_described(run, tmp_path):
    bundle = Bundle.load(run)
    rounded = {name: x.bfloat16() for name, x in bundle.tensors.items()}
    replace(bundle, tensors=rounded).save(tmp_path)
    description = describe_bundle(tmp_path)
    expected = describe_bundle(run)
    assert description["parameters"] == expected["parameters"]


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
    assert description["bands"] == "VV"
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
