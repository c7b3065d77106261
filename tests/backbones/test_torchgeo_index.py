"""The index of TorchGeo's weights equals its enums, with and without the cache file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torchgeo.models import get_weight

from rsft.backbones import torchgeo_vits
from rsft.backbones.torchgeo_vits import PublishedWeights, published_weights, read_enums


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(torchgeo_vits, "user_cache_path", lambda name: tmp_path / name)
    published_weights.cache_clear()
    yield tmp_path / "rsft/torchgeo"
    published_weights.cache_clear()


def test_index_equals_the_enums_before_and_after_it_is_cached(cache_folder: Path) -> None:
    expected = {weights.name: weights for weights in read_enums()}
    assert published_weights() == expected and len(expected) > 100
    published_weights.cache_clear()
    assert [file.suffix for file in cache_folder.iterdir()] == [".json"]
    assert published_weights() == expected and list(published_weights()) == list(expected)


def test_an_entry_has_the_values_of_its_enum() -> None:
    name = "ResNet50_Weights.SENTINEL1_ALL_MOCO"
    member = get_weight(name)
    assert published_weights()[name] == PublishedWeights(
        name=name,
        model="resnet50",
        url=member.url,
        dataset="SSL4EO-S12",
        method="moco",
        bands=("VV", "VH"),
        channels=2,
        size=None,
        normalizations=(((-12.59, -20.26), (5.26, 5.91)),),
    )


@pytest.mark.parametrize("damage", ["", "[{}]", '[{"normalizations": 1}]', "[1]"])
def test_damaged_cache_is_replaced(cache_folder: Path, damage: str) -> None:
    published_weights()
    (file,) = cache_folder.iterdir()
    content = file.read_text()
    file.write_text(damage)
    published_weights.cache_clear()
    assert len(published_weights()) > 100 and file.read_text() == content


def test_index_needs_no_writable_cache(cache_folder: Path) -> None:
    cache_folder.parent.write_text("a file where the folder should be")
    assert len(published_weights()) > 100


@pytest.mark.slow
def test_cards_are_listed_without_importing_torchgeo() -> None:
    published_weights()  # writes the cache
    code = (
        "import sys; from rsft.backbones.torchgeo_vits import torchgeo_card, torchgeo_names\n"
        "sys.exit(None in map(torchgeo_card, torchgeo_names()) or 'torchgeo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
