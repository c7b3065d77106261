"""FUSAR-Ship 1.0: ship chips of Gaofen-3, matched to AIS (Hou et al. 2020, Science China Information Sciences)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torchgeo.datasets import NonGeoDataset

from rsft.data.datasets._fusar_metadata import FUSARMetadata, read_fusar_metadata
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError
from rsft.types import Rejection

CATEGORIES = (
    "Cargo",
    "DiveVessel",
    "Dredger",
    "Fishing",
    "HighSpeedCraft",
    "LawEnforce",
    "Other",
    "Passenger",
    "PortTender",
    "Reserved",
    "SAR",
    "Tanker",
    "Tug",
    "Unspecified",
    "WingInGrnd",
)
"""Folder names in the order of the index xx, from 1, in Ship_CxxSyyNzzzz.tiff."""

_NAME = re.compile(r"Ship_C(\d+)S(\d+)N(\d+)", re.ASCII)
_SUFFIXES = frozenset({".tiff", ".tif"})
_SEARCH_DEPTH = 3


@dataclass(frozen=True)
class FUSARChip:
    """A chip and what the meta table says of it; None where it says nothing.

    Attributes:
        category: by the folder, which is the authority.
        spacing_m: mean of both directions.
        flags: "category-index" where the index in the name differs from the folder's, "no-meta" without a row.
    """

    path: Path
    category: str
    subcategory: str
    mmsi: str | None = None
    length_m: float | None = None
    width_m: float | None = None
    polarisation: str | None = None
    incidence_deg: float | None = None
    spacing_m: float | None = None
    flags: tuple[str, ...] = ()


class FUSARShip(NonGeoDataset):
    """The chips under `root`, at whatever depth the archive was unpacked.

    Attributes:
        chips: sorted by path.
        skipped: chips of folders that are no ship category, files that are no chips, rows without a file; by reason.
        rejected: chips and rows of the meta table that cannot be used.

    Raises:
        RequestError: no folder of a ship category in it.
        DataError: a meta.csv or meta.xls that is no table of META_COLUMNS.
    """

    def __init__(self, root: Path, transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> None:
        self.root, self.transforms = _find_root(root), transforms
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection]
        meta, self.rejected = read_fusar_metadata(self.root)
        self.chips: list[FUSARChip] = []
        for folder in sorted(path for path in self.root.iterdir() if path.is_dir()):
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            if folder.name not in CATEGORIES:
                chips = [path for path in files if path.suffix.lower() in _SUFFIXES]
                self.skipped[f"{folder.name} is no ship category"] += len(chips)
                continue
            for path in files:
                self._add(path, folder.name, meta)
        if meta:
            self.skipped["row of the meta table without a chip"] += len(meta)
        self.skipped = +self.skipped

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """image: (1, H, W) float32 in the file's own numbers; label: index into CATEGORIES."""
        chip = self.chips[index]
        pixels = read_chip(chip.path).astype(np.float32)
        label = torch.tensor(CATEGORIES.index(chip.category))
        sample = {"image": torch.from_numpy(pixels.transpose(2, 0, 1).copy()), "label": label}
        return sample if self.transforms is None else self.transforms(sample)

    def plot(self, sample: dict[str, Any]) -> Figure:
        """The chip in grey, its brightest half percent saturated."""
        image = sample["image"][0].numpy()
        figure, axes = plt.subplots()
        axes.imshow(image, cmap="gray", vmin=0, vmax=np.percentile(image, 99.5))
        axes.set_title(CATEGORIES[int(sample["label"])])
        axes.axis("off")
        return figure

    def _add(self, path: Path, category: str, meta: FUSARMetadata) -> None:
        if path.suffix.lower() not in _SUFFIXES:
            self.skipped["not a .tiff file"] += 1
            return
        match = _NAME.fullmatch(path.stem)
        if match is None:
            self.rejected.append((str(path), 0, "the name is not Ship_CxxSyyNzzzz"))
            return
        place = path.parent.relative_to(self.root)
        facts = meta.pop((place.as_posix(), path.stem), None)
        flags = []
        if int(match[1]) != CATEGORIES.index(category) + 1:
            flags.append("category-index")
        if facts is None:
            flags.append("no-meta")
        subcategory = place.relative_to(category).as_posix()
        self.chips.append(FUSARChip(path, category, subcategory, flags=tuple(flags), **facts or {}))


def _find_root(root: Path) -> Path:
    """The folder that holds the categories: `root`, or the first below it."""
    level = [root] if root.is_dir() else []
    for _ in range(_SEARCH_DEPTH):
        for folder in level:
            if any((folder / name).is_dir() for name in CATEGORIES):
                return folder
        level = sorted(child for folder in level for child in folder.iterdir() if child.is_dir())
    wanted = f"name the folder that holds {', '.join(CATEGORIES[:4])} and so on"
    raise RequestError("this is no FUSAR-Ship folder", root, wanted)
