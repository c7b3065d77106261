"""What an encoder gives for noise."""

import timm
import torch

from rsft.backbones.loading import Backbone, check_encoder, load_backbone


def test_the_same_noise_gives_the_same_features():
    backbone = load_backbone("vit_tiny_patch8_64.simship", 64)
    first, second = check_encoder(backbone, 64, 0), check_encoder(backbone, 64, 0)
    assert first.features == second.features and list(first.features) == ["class token", "patch mean"]
    assert first.tokens == 65
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    feature = backbone.vit.forward_features(noise)[:, 0]
    assert abs(first.features["class token"][1] - feature.std().item()) < 1e-5
    assert abs(first.features["class token"][2] - feature.norm(dim=1).mean().item()) < 1e-4


def test_encoder_without_a_class_token():
    vit = timm.create_model("test_vit2", num_classes=0).eval()
    backbone = Backbone("x", "", vit, (0, 0, 0), (1, 1, 1), ("R", "G", "B"), "uint8")
    assert list(check_encoder(backbone, 160, 0).features) == ["patch mean"]
