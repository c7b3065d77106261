"""Chips of smooth noise, as image files and as chip stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.store import ChipStore


def pixels(seed: int, dtype: type = np.uint8, bands: int = 1) -> np.ndarray:
    """Return smooth noise, whose perceptual hash differs from that of other seeds."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(
        rng.integers(0, 256, (8, 8)).astype(np.uint8),
        (32, 32),
        interpolation=cv2.INTER_CUBIC,
    )
    return np.repeat(image[:, :, None], bands, axis=2).astype(dtype)


def make_store(
    root: Path, seeds: Mapping[str, Iterable[int]], **columns: Mapping[int, object]
) -> ChipStore:
    """Build a store of two classes; `seeds` are those of the chips by split, `columns`
    are values by seed."""
    records = []
    for split, numbers in seeds.items():
        for seed in numbers:
            extra = {
                name: values[seed] for name, values in columns.items() if seed in values
            }
            image = pixels(seed)
            record = ChipRecord(
                f"{split}{seed}", split, "ab"[seed % 2], root, lambda image=image: image
            )
            records.append(replace(record, extra_columns=extra))
    return build_store(
        root,
        records,
        StoreDescription("pool", ("a", "b"), "none"),
        overwrite=root.exists(),
    )


def write(path: Path, image: np.ndarray) -> Path:
    """Write an image in the format of the suffix, and return the path, which may have
    any letters."""
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path
