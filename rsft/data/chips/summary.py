"""What a store holds, in numbers: read from the manifest, and from the files where it says nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.data.chips.store import SPLITS, ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.types import Progress

Counts = Mapping[str, Mapping[str, int]]
"""Chips by split and class."""


def count_chips(store: ChipStore) -> Counts:
    """Of every split and class, those without a chip included."""
    return {split: dict(zip(store.classes, store.counts(split).tolist(), strict=True)) for split in SPLITS}


def missing_classes(counts: Counts) -> dict[str, list[str]]:
    """Classes that have chips, but none in a split that has some: by that split."""
    total = Counter[str]()
    for chips in counts.values():
        total.update(chips)
    missing = {
        split: [name for name, count in total.items() if count and not chips.get(name)]
        for split, chips in counts.items()
        if any(chips.values())
    }
    return {split: names for split, names in missing.items() if names}


def summarise_pixels(root: Path, table: pd.DataFrame, progress: Progress | None = None) -> pd.DataFrame:
    """Read every chip of `table` once; a row a unit and number type, such as "db float32".

    Returns:
        chips, shortest and longest side in pixels, lowest, highest and mean of all pixels, bytes of the files.

    Raises:
        DataError: a chip that cannot be read, named.
    """
    rows = []
    for done, (path, unit) in enumerate(zip(table["path"], table["unit"], strict=True), 1):
        pixels, size = read_chip(root / path), (root / path).stat().st_size
        number_type, sides = str(pixels.dtype), pixels.shape[:2]
        kind = unit if unit == number_type else f"{unit} {number_type}"
        extremes = min(sides), max(sides), pixels.min().item(), pixels.max().item()
        rows.append((kind, *extremes, pixels.sum(dtype=np.float64), pixels.size, size))
        if progress is not None:
            progress(done, len(table), "reading chips")
    columns = ["kind", "shortest", "longest", "lowest", "highest", "total", "pixels", "bytes"]
    summary = (
        pd.DataFrame(rows, columns=columns)
        .groupby("kind")
        .agg(
            chips=("kind", "size"),
            shortest=("shortest", "min"),
            longest=("longest", "max"),
            lowest=("lowest", "min"),
            highest=("highest", "max"),
            total=("total", "sum"),
            pixels=("pixels", "sum"),
            bytes=("bytes", "sum"),
        )
    )
    summary["mean"] = summary.pop("total") / summary.pop("pixels")
    return summary
