"""timm's Swins with padded windows compute what torchvision's networks compute."""

import pytest
import torch
from torchvision.models import swin_transformer as published

from rsft.backbones.loading import load_encoder_weights, with_shrunk_windows
from rsft.backbones.padded_windows import has_padding
from rsft.backbones.timm_vits import build_hierarchical
from rsft.backbones.torchgeo_vits import convert_torchvision_swin, torchgeo_card
from rsft.peft import LoRA, attach

SMALL = {"embed_dim": 16, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8]}
NETWORKS = {
    "swin_tiny_patch4_window7_224": {"window_size": [7, 7]},
    "swinv2_tiny_window8_256": {
        "window_size": [8, 8],
        "block": published.SwinTransformerBlockV2,
        "downsample_layer": published.PatchMergingV2,
    },
}
SIZES = (64, 96, 128, 160, 224, 256)


def small_pair(name, size):
    """Return a small network of torchvision with random weights, and timm's."""
    torch.manual_seed(0)
    theirs = published.SwinTransformer([4, 4], **SMALL, **NETWORKS[name]).double()
    for parameter in theirs.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    ours = build_hierarchical(name, size, pads=True, **SMALL).double()
    ours.load_state_dict(convert_torchvision_swin(theirs.state_dict()))
    return theirs.eval(), ours.eval()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_those_of_torchvision_at_every_size(name, size):
    theirs, ours = small_pair(name, size)
    image = torch.randn(2, 3, size, size, dtype=torch.float64)
    with torch.inference_mode():
        expected = theirs.norm(theirs.features(image))
        features = ours.forward_features(image)
    assert (features - expected).norm() <= 1e-12 * expected.norm()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_block_has_its_sites_and_lora_learns(name):
    ours = small_pair(name, 96)[1]
    image = torch.randn(2, 3, 96, 96, dtype=torch.float64)
    expected = ours.forward_features(image)
    adapted = attach(ours, LoRA(rank=2, positions="qkvo"), learn_scales=True).double()
    assert len(adapted.sites) == 8 * 4
    torch.testing.assert_close(adapted.forward_features(image), expected)
    adapted.forward_features(image).square().sum().backward()
    gradients = [parameter.grad for parameter in adapted.theta]
    assert sum(bool(gradient.any()) for gradient in gradients) == 8 * 4


@pytest.mark.slow
def test_a_bundle_of_rsft_0_2_keeps_the_windows_of_its_training(tmp_path):
    card = torchgeo_card("Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS")
    torch.manual_seed(0)
    path = tmp_path / "x.pth"
    network = build_hierarchical("swinv2_tiny_window8_256", 256)
    state = network.state_dict()
    for tensor in state.values():
        tensor.add_(torch.randn_like(tensor), alpha=0.02)
    torch.save(state, path)
    native = load_encoder_weights(card, 256, path)
    padded = load_encoder_weights(card, 96, path)
    assert native.shrunk_sha256 is None and not has_padding(native.vit)
    assert padded.shrunk_sha256 == native.sha256 != padded.sha256
    image = torch.randn(1, 3, 96, 96)
    old = build_hierarchical("swinv2_tiny_window8_256", 96).eval()
    old.load_state_dict(state)
    with torch.inference_mode():
        expected = old.forward_features(image)
        assert not torch.allclose(padded.vit.forward_features(image), expected)
        shrunk = with_shrunk_windows(padded)
        torch.testing.assert_close(shrunk.vit.forward_features(image), expected)
    assert shrunk.sha256 == native.sha256
