"""The encoder that ships with the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from rsft.backbones import embedded
from rsft.backbones.embedded import load_embedded
from rsft.errors import RequestError, WeightsError
from rsft.files import sha256


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the weights and their card that a test may spoil."""
    for name in ("WEIGHTS", "CARD"):
        original = getattr(embedded, name)
        monkeypatch.setattr(embedded, name, Path(shutil.copy(original, tmp_path)))
    return embedded.WEIGHTS


def test_small_enough_to_ship() -> None:
    assert embedded.WEIGHTS.stat().st_size < 4_000_000


@pytest.mark.parametrize("size", [64, 96])
def test_features(size: int) -> None:
    vit, _ = load_embedded(size)
    with torch.no_grad():
        tokens = vit.forward_features(torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)))
    assert tokens.shape == (2, 1 + (size // 8) ** 2, 192)
    assert tokens.dtype == torch.float32
    assert tokens.isfinite().all()


def test_every_tensor_is_loaded() -> None:
    vit, _ = load_embedded(64)
    stored = safetensors.torch.load_file(embedded.WEIGHTS)
    loaded = vit.state_dict()
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[key], stored[key].float()) for key in stored)


def test_card_describes_the_weights() -> None:
    _, card = load_embedded(64)
    assert card["sha256"] == sha256(embedded.WEIGHTS)
    assert card["architecture"] == {"img_size": 64, **embedded.ARCHITECTURE}
    assert (len(card["mean"]), len(card["std"])) == (3, 3)
    assert card["held_out_accuracy"]["grey"] > 0.5
    assert card["licence"].startswith("MIT")


@pytest.mark.parametrize("size", [0, -8, 60, 97])
def test_size_must_fit_the_patches(size: int) -> None:
    with pytest.raises(RequestError, match="multiples of 8"):
        load_embedded(size)


def test_altered_weights(copied: Path) -> None:
    data = bytearray(copied.read_bytes())
    data[-1] ^= 1
    copied.write_bytes(data)
    with pytest.raises(WeightsError, match="differ from its model card"):
        load_embedded(64)


def test_incomplete_weights(copied: Path) -> None:
    state = safetensors.torch.load_file(copied)
    del state["norm.bias"]
    safetensors.torch.save_file(state, copied)
    card = json.loads(embedded.CARD.read_text()) | {"sha256": sha256(copied)}
    embedded.CARD.write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="lack or exceed"):
        load_embedded(64)


def test_missing_weights(copied: Path) -> None:
    copied.unlink()
    with pytest.raises(WeightsError, match="missing"):
        load_embedded(64)
