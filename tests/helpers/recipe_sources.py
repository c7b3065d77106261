"""Write small archives of noise for every source that the header of a shipped recipe
names."""

from __future__ import annotations

from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from rsft.data.datasets.dota import CLASSES
from tests.data.datasets.dota.data import row, write_pair
from tests.data.datasets.fusar_ship.data import write_fusar
from tests.data.datasets.srsdd.data import write_srsdd

EXTRA_OPTIONS = {
    "fusrs": ("--lists", "LISTS"),
}
"""Options added to the `rsft prepare` commands: no network."""

SHIPS = {
    "cargo": ("C07S11", 9),
    "fishing": ("C04S01", 7),
    "tanker": ("C12S01", 5),
    "dredger": ("C03S01", 4),
}
"""Number of training chips by FUSAR-Ship category index."""


def write_all(folder: Path) -> None:
    """Write every source folder that a header names in capitals."""
    _write_class_folders(folder / "MSTAR_FOLDER/train", planes=1)
    _write_class_folders(folder / "MSTAR_FOLDER/val", planes=1)
    # of a script, which is no command
    _write_class_folders(folder / "data/mstar_pool", planes=1, first=12)
    _write_class_folders(folder / "RSSCN7_FOLDER", planes=3)
    _write_fusrs(folder)
    for split, images in {"train": 3, "val": 1}.items():
        places = [
            (10 * (n % 5), 15 * (n // 5), name) for n, name in enumerate(CLASSES[:15])
        ]
        rows = "".join(row(x, y, x + 10, y + 12, name) for x, y, name in places)
        for number in range(images):
            write_pair(folder / "DOTA" / split, rows, f"P{split}{number}", seed=number)
    for module in _import_sources_of_plugins():
        module.write_all(folder)


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the published number of classes, and simulated data."""
    for module in _import_sources_of_plugins():
        module.make_small(monkeypatch)


def _write_class_folders(folder: Path, planes: int, first: int = 0) -> None:
    for label in "abc":
        (folder / label).mkdir(parents=True)
        for number in range(first, first + 12):
            pixels = np.random.default_rng(number).integers(
                0, 256, (32, 32, planes), dtype=np.uint8
            )
            cv2.imwrite(str(folder / label / f"{number}.png"), pixels)


def _write_fusrs(folder: Path) -> None:
    names = {
        label: [f"Ship_{prefix}N{n:04}" for n in range(count + 2)]
        for label, (prefix, count) in SHIPS.items()
    }
    write_fusar(folder / "FUSAR", chain(*names.values()), vessels=1)
    write_srsdd(folder / "SRSDD", {1: ["Container", "Fishing"]})
    (folder / "LISTS").mkdir()
    for split, rows_of_split in {"train": slice(2, None), "test": slice(2)}.items():
        rows = [
            f"{name}.png {label}"
            for label, ships in enumerate(names.values())
            for name in ships[rows_of_split]
        ]
        # a list without SRSDD is refused
        rows += ["L1_1.png 0", "L1_2.png 1"] if split == "train" else []
        (folder / f"LISTS/v25_{split}.txt").write_text("\n".join(rows))


def _import_sources_of_plugins() -> list[ModuleType]:
    """Return the modules recipe_sources.py of the plug-ins' tests."""
    folder = Path(__file__).parents[1] / "plugins"
    return [
        import_module(f"tests.plugins.{path.parent.name}.recipe_sources")
        for path in sorted(folder.glob("*/recipe_sources.py"))
    ]
