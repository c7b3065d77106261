"""Recognize the chips of a store by their pixels, whatever the format of their files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rsft.data.imagery.reader import open_image, read_chip
from rsft.errors import DataError
from rsft.types import Pixels, Progress


def pixel_digest(pixels: Pixels) -> str:
    """Return a hash of the shape, the data type and the values of a chip.

    Args:
        pixels: (H, W, B).

    Returns:
        Hexadecimal digits.
    """
    if pixels.dtype.kind == "f":  # one pattern of bits for all NaN, and for 0 and -0
        pixels = np.where(np.isnan(pixels), np.float32(np.nan), pixels + np.float32(0))
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def find_same_pixels(
    root: Path, manifest: pd.DataFrame, digests: Mapping[str, tuple[int, ...]], progress: Progress | None = None
) -> dict[str, list[int]]:
    """Find the chips of a store that have the pixels of other chips. Only chips of the same size are decoded.

    Args:
        root: folder of the store.
        manifest: its manifest.
        digests: shape (H, W, B) of the other chips, by the hash of their pixels.
        progress: called after each chip of the store.

    Returns:
        Positions of rows in the manifest, by the hash of the pixels.

    Raises:
        DataError: a chip of the store cannot be read.
    """
    sizes, same = {shape[:2] for shape in digests.values()}, dict[str, list[int]]()
    for row, path in enumerate(manifest["path"] if sizes else ()):
        if _may_have_size(root / path, sizes):
            digest = pixel_digest(read_chip(root / path))
            if digest in digests:
                same.setdefault(digest, []).append(row)
        if progress is not None:
            progress(row + 1, len(manifest), "comparing chips")
    return same


def _may_have_size(path: Path, sizes: set[tuple[int, ...]]) -> bool:
    """Return whether an image has one of the sizes, or Pillow cannot tell."""
    try:
        with open_image(path) as image:
            return (image.height, image.width) in sizes
    except DataError:
        return True
