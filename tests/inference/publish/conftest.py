"""A finished run of a released version, in a folder that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ARTIFACTS = Path(__file__).parents[2] / "compat/0.1"


@pytest.fixture
def ships(tmp_path: Path) -> Path:
    """Run folder of a bundle of three classes of ships."""
    return shutil.copytree(ARTIFACTS / "run", tmp_path / "runs/ships/001")


@pytest.fixture
def chips() -> Path:
    """Folder with chips that the bundle classifies."""
    return ARTIFACTS / "store/chips/val"
