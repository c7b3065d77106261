"""Statistics of a chip store: class counts from the manifest, pixel values from the files."""

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
"""Number of chips by split and class."""


def count_chips(store: ChipStore) -> Counts:
    """Count the chips of every split and class.

    Args:
        store: the chip store.

    Returns:
        Number of chips by split and class; 0 if a class has no chip.
    """
    return {split: dict(zip(store.classes, store.class_counts(split).tolist(), strict=True)) for split in SPLITS}


def missing_classes(counts: Counts) -> dict[str, list[str]]:
    """Find classes that have chips, but none in a split that has chips of other classes.

    Args:
        counts: number of chips by split and class.

    Returns:
        Names of the missing classes by split; splits without one are left out.
    """
    total = Counter[str]()
    for chips in counts.values():
        total.update(chips)
    missing = {
        split: [name for name, count in total.items() if count and not chips.get(name)]
        for split, chips in counts.items()
        if any(chips.values())
    }
    return {split: names for split, names in missing.items() if names}


def summarize_pixels(root: Path, table: pd.DataFrame, progress: Progress | None = None) -> pd.DataFrame:
    """Summarize the pixels of all chips in one pass.

    Args:
        root: folder of the store.
        table: manifest rows of the chips.
        progress: called after each chip.

    Returns:
        One row per unit and data type, such as "db float32" (index "kind"). Columns: number of chips, shortest and
        longest side in pixels, lowest, highest and mean pixel value, and bytes of the files.

    Raises:
        DataError: a chip cannot be read; the message names it.
    """
    rows = []
    for done, (path, unit) in enumerate(zip(table["path"], table["unit"], strict=True), 1):
        pixels, size = read_chip(root / path), (root / path).stat().st_size
        dtype, sides = str(pixels.dtype), pixels.shape[:2]
        kind = unit if unit == dtype else f"{unit} {dtype}"
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
