"""Origin and architecture of encoders come from their cards."""

from __future__ import annotations

import pytest

from rsft.models.inspection.describe import EncoderOrigin, architecture_family, find_encoder_origin
from rsft.recipe.schema import BackboneSection


def test_an_encoder_in_rsft_has_no_address() -> None:
    origin = find_encoder_origin(BackboneSection())
    assert "simulated optical ships" in origin.about and origin.url is None and origin.repository is None


def test_an_encoder_of_the_hub_has_a_repository() -> None:
    origin = find_encoder_origin(BackboneSection(name="ViTSmall16_Weights.LANDSAT_OLI_TIRS_TOA_MOCO"))
    assert origin.repository == "torchgeo/ssl4eo_landsat" and str(origin.url).startswith("https://huggingface.co/")
    assert find_encoder_origin(BackboneSection(name="satmae_vit_large_patch16_224.fmow_rgb")).repository is None


def test_nothing_is_known_of_a_file_or_an_unknown_encoder() -> None:
    assert find_encoder_origin(BackboneSection(weights="mine.pth")) == EncoderOrigin()
    assert find_encoder_origin(BackboneSection(name="vit_of_tomorrow")) == EncoderOrigin()


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("satmae_vit_large_patch16_224.fmow_rgb", "Vision Transformer"),
        ("ScaleMAELarge16_Weights.FMOW_RGB", "Vision Transformer"),
        ("ResNet50_Weights.SENTINEL2_ALL_MOCO", "ResNet"),
        ("swinv2_tiny_window8_256.ms_in1k", "Swin Transformer"),
        ("convnextv2_nano.fcmae", "ConvNeXt"),
        ("other_net", "other_net"),
    ],
)
def test_families(name: str, family: str) -> None:
    assert architecture_family(name) == family
