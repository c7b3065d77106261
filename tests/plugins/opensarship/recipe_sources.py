"""Write small scenes of noise for the sources of the shipped recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugins.opensarship.data import GRD, write_scene

SHIPS = {"Cargo_x3_y4": 70, "Tanker_x1_y2": 80, "Law Enforcement_x5_y6": 55}


def write_all(folder: Path) -> None:
    """Write every source folder that a header names in capitals."""
    for year in range(2013, 2019):
        scene = GRD.replace("2015", str(year))
        write_scene(folder / "OPENSARSHIP", scene, SHIPS, seed=year)


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Change nothing: the scenes are small."""
