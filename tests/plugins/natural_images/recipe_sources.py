"""Write small photographs of noise for the sources of the shipped recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rsft.plugins.natural_images import cifar100, list_files
from tests.plugins.natural_images.cifar_data import write_folders

NATURAL = {"apple": 12, "bee": 6, "bus": 3}


def write_all(folder: Path) -> None:
    """Write every source folder that a header names in capitals."""
    _write_natural(folder / "CIFAR100", ("train", "test"))
    _write_lists(folder / "PLACES365", "Places_LT", ("train", "val", "test"))
    _write_lists(folder / "INAT2018", "iNaturalist18", ("train", "val"))


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduce the published number of classes."""
    for name in ("PLACES_LT", "INATURALIST_2018"):
        published = replace(getattr(list_files, name), classes=len(NATURAL))
        monkeypatch.setattr(list_files, name, published)
    monkeypatch.setattr(cifar100, "CLASSES", tuple(NATURAL))


def _write_natural(folder: Path, splits: tuple[str, ...]) -> None:
    counts = {
        split: {
            name: count if split == "train" else 2 for name, count in NATURAL.items()
        }
        for split in splits
    }
    write_folders(
        folder,
        {
            f"{split}/{name}": count
            for split in splits
            for name, count in counts[split].items()
        },
    )


def _write_lists(folder: Path, title: str, splits: tuple[str, ...]) -> None:
    _write_natural(folder, splits)
    for split in splits:
        rows = [
            f"{path.relative_to(folder)} {label}"
            for label, name in enumerate(NATURAL)
            for path in sorted(folder.glob(f"{split}/{name}/*"))
        ]
        (folder / f"{title}_{split}.txt").write_text("\n".join(rows))
