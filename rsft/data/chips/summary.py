"""Statistics of a chip store: class counts from the manifest, pixel values from the files."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.data.chips.store import SPLITS, ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.types import Progress

_RARE_RATIO = 10  # a typo occurs in few labels
_SHORTEST_NAME = 4

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


def list_first_names(names: Sequence[str], limit: int = 10) -> str:
    """Return names for a message: the first ones, and the number of the others.

    Args:
        names: names of classes.
        limit: largest number of names.
    """
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def find_label_typos(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Find rare classes whose name differs by one edit from that of a common class.

    One edit adds, removes or changes a letter, or exchanges two neighbors. Upper and lower case, spaces, hyphens and
    underscores do not count. Names shorter than four characters and names that differ in a digit are left out.

    Args:
        counts: number of chips by class.

    Returns:
        Pairs of the rare class and the class that is at least ten times as large. If the names only differ in case and
        separators, the sizes do not matter.

    Example:
        >>> find_label_typos({"Cargo": 50, "Crago": 1, "T-62": 5, "T-72": 90})
        [('Crago', 'Cargo')]
    """
    plain = {name: re.sub(r"[\s_-]", "", name).casefold() for name in counts}
    similar: dict[str, list[str]] = {}
    for name, text in plain.items():
        for key in {text, *(text[:i] + text[i + 1 :] for i in range(len(text)))}:
            similar.setdefault(key, []).append(name)
    pairs = {pair for names in similar.values() for pair in permutations(names, 2)}
    return sorted(
        (rare, common)
        for rare, common in pairs
        if (plain[rare] == plain[common] and (counts[rare], rare) < (counts[common], common))
        or (counts[rare] * _RARE_RATIO <= counts[common] and _is_one_edit(plain[rare], plain[common]))
    )


def _is_one_edit(first: str, second: str) -> bool:
    short, long = sorted((first, second), key=len)
    changed = [i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b] or [len(short)]
    start = changed[0]
    if len(short) < _SHORTEST_NAME or any(
        char.isdigit() for char in (short[start : start + 1] + long[start : start + 1])
    ):
        return False
    if len(short) < len(long):
        return len(long) == len(short) + 1 and short[start:] == long[start + 1 :]
    is_swap = short[start : start + 2] == long[start : start + 2][::-1] and short[start + 2 :] == long[start + 2 :]
    return len(changed) == 1 or is_swap


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
