"""Make the simulated data of the shipped recipes small."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsft.plugins.demo import prepare


def write_all(folder: Path) -> None:
    """Write nothing: the data are simulated."""


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the number of chips and scenes."""
    counts = {"train": dict(zip(prepare.DEMO_CLASSES, (6, 4, 3, 2), strict=True))}
    for split in ("val", "test"):
        counts[split] = dict.fromkeys(prepare.DEMO_CLASSES, 1)
    monkeypatch.setattr(prepare, "DEMO_COUNTS", counts)
    monkeypatch.setattr(prepare, "DEMO_SCENES", 1)
