"""Fixtures of prediction jobs."""

from pathlib import Path

import numpy as np
import pytest

import rsft
from tests.helpers.scenes import (
    UTM,
    use_toy_model,
    write_geotiff,
)
from tests.helpers.style import ROOT


@pytest.fixture(scope="session")
def model():
    """Load the bundle of rsft 0.2, whose recipe names a tracker."""
    pytest.importorskip("rsft.plugins.trackers")
    return rsft.load_bundle(ROOT / "tests/compat/0.2/run", device="cpu")


@pytest.fixture
def bundle(monkeypatch):
    use_toy_model(monkeypatch)
    return Path("bundle")


@pytest.fixture
def scene(tmp_path):
    """Write a scene of 64 x 128 pixels: the left side dark, the right side bright, one
    corner empty."""
    pixels = np.random.default_rng(0).integers(0, 60, (64, 128), np.uint8)
    pixels[:, 64:] += 180
    pixels[48:, :16] = 0
    return write_geotiff(tmp_path / "s.tif", pixels, crs="EPSG:32633", transform=UTM)
