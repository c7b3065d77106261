"""FUSAR-Ship 1.0: ship chips of Gaofen-3, matched to AIS (Hou et al. 2020, Science China Information Sciences)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

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
"""Folder names in the order of the index xx (from 1) in Ship_CxxSyyNzzzz.tiff."""

_NAME = re.compile(r"Ship_C(\d+)S(\d+)N(\d+)", re.ASCII)
_SUFFIXES = frozenset({".tiff", ".tif"})
_SEARCH_DEPTH = 3


@dataclass(frozen=True)
class FUSARChip:
    """A chip with its metadata; values that the metadata table lacks are None.

    Attributes:
        path: the file.
        category: ship category, the name of the folder.
        subcategory: folder below the category.
        mmsi: MMSI of the vessel.
        length_m: length of the vessel in meters.
        width_m: width of the vessel in meters.
        polarization: polarization mode.
        incidence_deg: look angle at the center in degrees.
        spacing_m: pixel spacing in meters, mean of both directions.
        flags: "category-index" if the index in the name contradicts the folder, "no-meta" if it has no metadata.
    """

    path: Path
    category: str
    subcategory: str
    mmsi: str | None = None
    length_m: float | None = None
    width_m: float | None = None
    polarization: str | None = None
    incidence_deg: float | None = None
    spacing_m: float | None = None
    flags: tuple[str, ...] = ()


class FUSARShip(NonGeoDataset):
    """FUSAR-Ship 1.0, one sample per chip.

    Args:
        root: the folder of the categories, or a folder up to three levels above it.
        transforms: applied to each sample.

    Attributes:
        classes: ship categories in the order of the labels.
        root: the folder of the categories.
        chips: sorted by path.
        skipped: number of chips in other folders, of other files and of metadata rows without a file, by reason.
        rejected: chips and metadata rows that cannot be used.

    Raises:
        RequestError: no folder has the name of a ship category.
        DataError: a meta.csv or meta.xls is not a table with META_COLUMNS.
    """

    classes: ClassVar[tuple[str, ...]] = CATEGORIES

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
                self.skipped[f"{folder.name} is not a ship category"] += len(chips)
                continue
            for path in files:
                self._add(path, folder.name, meta)
        if meta:
            self.skipped["row of the meta table without a chip"] += len(meta)
        self.skipped = +self.skipped

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.chips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample.

        Args:
            index: position of the sample.

        Returns:
            image: (1, H, W) float32 with the values of the file; label: index into `classes`.
        """
        chip = self.chips[index]
        pixels = read_chip(chip.path).astype(np.float32)
        label = torch.tensor(CATEGORIES.index(chip.category))
        sample = {"image": torch.from_numpy(pixels.transpose(2, 0, 1).copy()), "label": label}
        return sample if self.transforms is None else self.transforms(sample)

    def plot(self, sample: dict[str, Any]) -> Figure:
        """Plot a chip in gray, stretched from 0 to the 99.5th percentile.

        Args:
            sample: a sample from `__getitem__`.

        Returns:
            The figure.
        """
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
        folder = path.parent.relative_to(self.root)
        fields = meta.pop((folder.as_posix(), path.stem), None)
        flags = []
        if int(match[1]) != CATEGORIES.index(category) + 1:
            flags.append("category-index")
        if fields is None:
            flags.append("no-meta")
        subcategory = folder.relative_to(category).as_posix()
        self.chips.append(FUSARChip(path, category, subcategory, flags=tuple(flags), **fields or {}))


def _find_root(root: Path) -> Path:
    """Return the folder of the categories: `root`, or the first below it."""
    level = [root] if root.is_dir() else []
    for _ in range(_SEARCH_DEPTH):
        for folder in level:
            if any((folder / name).is_dir() for name in CATEGORIES):
                return folder
        level = sorted(child for folder in level for child in folder.iterdir() if child.is_dir())
    hint = f"give the folder that contains {', '.join(CATEGORIES[:4])} and so on"
    raise RequestError("the folder does not contain FUSAR-Ship", root, hint)
