"""Adapt the first layer of an encoder to the bands of the chips."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from rsft.backbones import Backbone, fit_inputs
from rsft.errors import RequestError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def encoder(bands=("R", "G", "B"), mean=MEAN, std=STD, unit="uint8", bias=True):
    torch.manual_seed(0)
    vit = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0
    )
    vit.patch_embed.proj = nn.Conv2d(len(bands), 24, 8, 8, bias=bias)
    return Backbone("toy", "0", vit.eval(), mean, std, bands, unit)


def features(backbone, planes):
    """Return features of planes (B, P, 16, 16) in 0-1, normalized with the backbone's
    mean and standard deviation."""
    shape = (1, -1, 1, 1)
    mean = torch.tensor(backbone.mean).view(shape)
    std = torch.tensor(backbone.std).view(shape)
    with torch.no_grad():
        return backbone.vit.forward_features((planes - mean) / std)


ONE, TWO = torch.rand(2, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bias", [True, False])
def test_folding_one_band_equals_repeating_it(bias):
    repeated = fit_inputs(encoder(bias=bias), ["HH"], None, "replicate")
    folded = fit_inputs(encoder(bias=bias), ["HH"], None, "fold")
    assert (repeated.bands, folded.bands) == (("HH",) * 3, ("HH",))
    assert folded.vit.patch_embed.proj.weight.shape[1] == 1
    assert torch.allclose(
        features(repeated, ONE.repeat(1, 3, 1, 1)), features(folded, ONE), atol=1e-5
    )


def test_folding_two_bands_in_three_planes():
    planes = ["VV", "VH", "VV"]
    repeated = fit_inputs(encoder(), ["VV", "VH"], planes, "replicate")
    folded = fit_inputs(encoder(), ["VV", "VH"], planes, "fold")
    assert folded.bands == ("VV", "VH") and folded.mean == MEAN[:2]
    wide = torch.cat([ONE, TWO, ONE], 1)
    narrow = torch.cat([ONE, TWO], 1)
    assert torch.allclose(features(repeated, wide), features(folded, narrow), atol=1e-5)


def test_folding_a_padded_first_layer_needs_equal_means():
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 24, 4, 4))
    same_mean = encoder(mean=(0.4,) * 3, std=(0.2,) * 3)
    different = encoder()
    for backbone in (same_mean, different):
        backbone.vit.patch_embed.proj = stem
    expected = features(same_mean, ONE.repeat(1, 3, 1, 1))
    with pytest.raises(RequestError, match="pads the image"):
        fit_inputs(different, ["HH"], None, "fold")
    folded = fit_inputs(same_mean, ["HH"], None, "fold")
    assert torch.allclose(expected, features(folded, ONE), atol=1e-5)


def test_expanding_keeps_the_sum():
    wide = fit_inputs(encoder(), ["B02", "B03", "B04", "B08", "B11"], None, "expand")
    weight = wide.vit.patch_embed.proj.weight
    assert weight.shape[1] == 5 and wide.mean == (*MEAN, *MEAN[:2])
    original = encoder().vit.patch_embed.proj.weight
    assert torch.allclose(weight, original[:, [0, 1, 2, 0, 1]] * 3 / 5)


def test_bands_are_selected_by_name():
    sar = fit_inputs(
        encoder(("VV", "VH"), (-12.6, -20.3), (5.3, 5.9), "db"),
        ["VH", "VV"],
        None,
        "replicate",
    )
    assert sar.bands == ("VV", "VH")
    optical = fit_inputs(encoder(), ["B08", "R", "G", "B"], None, "replicate")
    assert optical.bands == ("R", "G", "B")


@pytest.mark.parametrize(
    ("bands", "planes", "message"),
    [
        (["VV", "VH"], None, "takes 3 inputs .R, G, B., not VV, VH"),
        # the assignment of bands is not guessed
        (
            ["VV", "VH", "HH"],
            None,
            "not VV, VH, HH",
        ),
        (["VV", "VH"], ["VV", "VH"], "not VV, VH"),
        (["VV", "VH"], ["VV", "VH", "HH"], "no band HH"),
    ],
)
def test_bands_that_cannot_be_fitted(bands, planes, message):
    with pytest.raises(RequestError, match=message):
        fit_inputs(encoder(), bands, planes, "replicate")


def test_composite_planes():
    assert fit_inputs(
        encoder(), ["VV", "VH"], ["VV", "VH", "VV - VH"], "replicate"
    ).bands == ("VV", "VH", "VV - VH")
