"""The encoder that ships with the package."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from rsft.backbones import load_backbone, registered, simship
from rsft.errors import WeightsError
from rsft.utils.atomic_files import sha256
from tests.helpers.messages import mentions


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Copy of the weights and their model card that a test may change."""
    shutil.copy(simship.CARD, tmp_path)
    weights = Path(shutil.copy(simship.WEIGHTS, tmp_path))
    monkeypatch.setitem(
        registered.CARDS, simship.NAME, replace(simship.CARDS[0], weights=weights)
    )
    return weights


@pytest.mark.parametrize("size", [64, 96])
def test_features(size):
    vit = load_backbone(simship.NAME, size).vit
    with torch.no_grad():
        tokens = vit.forward_features(
            torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        )
    assert tokens.shape == (2, 1 + (size // 8) ** 2, 192)
    assert tokens.dtype == torch.float32
    assert tokens.isfinite().all()


def test_every_tensor_is_loaded():
    stored = safetensors.torch.load_file(simship.WEIGHTS)
    loaded = load_backbone(simship.NAME, 64).vit.state_dict()
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[key], stored[key].float()) for key in stored)


def test_model_card_matches_the_weights_and_the_card():
    card = simship.CARDS[0]
    model_card = json.loads(simship.CARD.read_text())
    assert model_card["sha256"] == sha256(simship.WEIGHTS)
    assert model_card["architecture"] == {"img_size": 64, **simship.ARCHITECTURE}
    assert (tuple(model_card["mean"]), tuple(model_card["std"])) == (
        card.mean,
        card.std,
    )
    assert model_card["held_out_accuracy"]["grey"] > 0.5
    assert model_card["licence"].startswith(card.license)


def test_altered_weights(copied):
    data = bytearray(copied.read_bytes())
    data[-1] ^= 1
    copied.write_bytes(data)
    with pytest.raises(WeightsError, match=mentions("differ", "model card")):
        load_backbone(simship.NAME, 64)


def test_incomplete_weights(copied):
    state = safetensors.torch.load_file(copied)
    del state["norm.bias"]
    safetensors.torch.save_file(state, copied)
    card = json.loads(simship.CARD.read_text()) | {"sha256": sha256(copied)}
    copied.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=r"missing: norm\.bias"):
        load_backbone(simship.NAME, 64)


def test_missing_weights(copied):
    copied.unlink()
    with pytest.raises(WeightsError, match="are missing"):
        load_backbone(simship.NAME, 64)
