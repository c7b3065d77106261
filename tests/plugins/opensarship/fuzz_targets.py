"""The list of ships of OpenSARShip."""

from __future__ import annotations

from pathlib import Path

from rsft.data.datasets.source_errors import translate_dataset_errors
from rsft.plugins.opensarship.opensarship import OpenSARShip
from tests.fuzz.mutate import mutate_text
from tests.fuzz.target import Target
from tests.plugins.opensarship.data import GRD, write_scene


def _build(folder: Path) -> None:
    write_scene(folder, GRD, {"Cargo_x3_y4": 70, "Tanker_x5_y6": 80})


def _read(folder: Path) -> None:
    with translate_dataset_errors("OpenSARShip", folder, ""):
        OpenSARShip(folder)


TARGETS = [
    Target("opensarship_xml", _build, {f"{GRD}/Ship.xml": mutate_text}, _read),
]
