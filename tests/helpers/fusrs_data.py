"""Write small FUSAR-Ship and SRSDD archives of noise in their published formats."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from rsft.data.datasets._fusar_metadata import META_COLUMNS
from rsft.data.datasets.fusar_ship import CATEGORIES
from rsft.data.datasets.fusrs import CLASSES, FUSRSListRow

ANNOTATED = {
    "cargo": "Cell-Container",
    "other": "LawEnforce",
    "fishing": "Fishing",
    "tanker": "ore-oil",
    "dredger": "Dredger",
}
"""SRSDD class of each FUSRS class."""


def write_fusar(root: Path, names: Iterable[str], *, size: int = 16, vessels: int = 3) -> Path:
    """Write one chip per name in the folder of its category; `vessels` consecutive chips share an MMSI."""
    rows = []
    for index, name in enumerate(sorted(set(names))):
        category = CATEGORIES[int(name[6:8]) - 1]
        folder = f"{category}/Sub{name[9:11]}"
        path = root / folder / f"{name}.tiff"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(index).integers(0, 255, (size, size), np.uint8))
        mmsi = 900_000_000 + index // vessels
        rows.append((name, mmsi, 100, 20, "DH", 30.5, 1.7, 1.1, folder.replace("/", "\\")))
    with (root / "meta.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([META_COLUMNS, *rows])
    return root


def write_srsdd(root: Path, images: Mapping[int, Sequence[str]], *, size: int = 96) -> Path:
    """Write one image per key with a ship of each class; the boxes are below each other."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for image, classes in images.items():
        pixels = np.random.default_rng(10**6 + image).integers(0, 255, (size, size), np.uint8)
        cv2.imwrite(str(root / "images" / f"{image}.png"), pixels)
        tops = np.linspace(2, size - 12, len(classes))
        rows = [
            f"10 {top:.1f} 50 {top:.1f} 50 {top + 8:.1f} 10 {top + 8:.1f} {name} 0\n"
            for top, name in zip(tops, classes, strict=True)
        ]
        (root / "labels" / f"{image}.txt").write_text("".join(rows), "utf-8")
    return root


def write_for_lists(root: Path, rows: Iterable[FUSRSListRow], classes: int) -> tuple[Path, Path]:
    """Write both archives with every name in `rows`; ships that no row names are fishing vessels."""
    rows = list(rows)
    ships: dict[int, dict[int, str]] = defaultdict(dict)
    for row in rows:
        if row.image is not None:
            ships[row.image][int(row.name.split("_")[1])] = ANNOTATED[CLASSES[classes][row.label]]
    images = {
        image: [names.get(number, "Fishing") for number in range(1, max(names) + 1)] for image, names in ships.items()
    }
    names = [row.name for row in rows if row.category is not None]
    return write_fusar(root / "FUSAR", names), write_srsdd(root / "SRSDD", images)
