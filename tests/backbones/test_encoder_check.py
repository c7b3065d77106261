"""Features of an encoder on fixed noise, to compare machines and files."""

import pytest
import torch

from rsft.backbones.encoder_check import BATCH_SIZE, check_encoder
from rsft.backbones.loading import load_backbone


def test_the_numbers_are_those_of_the_features():
    backbone = load_backbone("vit_tiny_patch8_64.simship", 64)
    check = check_encoder(backbone, 64, seconds=0)
    noise = torch.randn(
        (BATCH_SIZE, 3, 64, 64), generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        tokens = backbone.vit.forward_features(noise)
    assert check.tokens == tokens.shape[1] == 65
    assert list(check.features) == ["class token", "patch mean"]
    mean, std, norm = check.features["class token"]
    assert mean == pytest.approx(tokens[:, 0].mean().item(), abs=1e-6)
    assert std == pytest.approx(tokens[:, 0].std().item(), rel=1e-5)
    assert norm == pytest.approx(tokens[:, 0].norm(dim=1).mean().item(), rel=1e-5)
    patches = tokens[:, 1:].mean(1)
    assert check.features["patch mean"][1] == pytest.approx(
        patches.std().item(), rel=1e-5
    )
    assert check.speed > 0 and check.device


def test_two_runs_say_the_same():
    backbone = load_backbone("vit_tiny_patch8_64.simship", 64)
    first, second = (check_encoder(backbone, 64, seconds=0) for _ in range(2))
    assert first.features == second.features
