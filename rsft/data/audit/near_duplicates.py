"""What the pixels of a chip say: its content, its perceptual hash, how much of it is saturated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError
from rsft.types import Pixels, Progress
from rsft.utils.atomic_files import sha256
from rsft.utils.process_pool import imap_unordered

MAX_HASH_DISTANCE = 3
"""Chips whose 64-bit hashes differ in no more bits are near-duplicates."""
SATURATION_SHARE = 0.25
"""Share of the pixels at the largest value of the number type from which a chip counts as saturated."""

_BANDS = range(0, 64, 16)  # hashes that differ in at most 3 bits agree in one of 4 runs of 16


@dataclass(frozen=True)
class ChipContent:
    """What one file holds; `fault` says why it cannot be used, and then there is no hash."""

    sha256: str
    hash: int | None = None
    saturated: float = 0.0
    fault: str = ""


def read_chip_content(path: Path) -> ChipContent:
    """Read one chip; a constant, damaged or absent one comes back with its fault."""
    try:
        digest = sha256(path)
        pixels = read_chip(path)
    except OSError as error:
        return ChipContent("", fault=f"the file cannot be read: {error.strerror}")
    except DataError as error:
        return ChipContent(digest, fault=error.message)
    return ChipContent(digest, _perceptual_hash(pixels), _saturated(pixels))


def read_chip_contents(paths: Sequence[Path], jobs: int, progress: Progress | None = None) -> list[ChipContent]:
    """`look_at` for each path, shared out to processes.

    Raises:
        RsftError: a process was killed.
    """
    looks: dict[int, ChipContent] = {}
    for number, look in imap_unordered(_look_at_numbered, enumerate(paths), jobs):
        looks[number] = look
        if progress is not None:
            progress(len(looks), len(paths), "auditing chips")
    return [looks[number] for number in range(len(paths))]


def _look_at_numbered(task: tuple[int, Path]) -> tuple[int, ChipContent]:
    number, path = task
    return number, read_chip_content(path)


def find_near_duplicates(hashes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of distinct hashes that differ in at most NEAR bits, the smaller first; each pair once.

    By the pigeonhole principle such a pair agrees in one run of 16 bits, so only hashes that share one are compared.
    """
    distinct = sorted(set(hashes))
    for band in _BANDS:
        buckets: dict[int, list[int]] = defaultdict(list)
        for value in distinct:
            buckets[value >> band & 0xFFFF].append(value)
        for bucket in buckets.values():
            for first, second in combinations(bucket, 2):
                difference = first ^ second
                earlier = any(not difference >> before & 0xFFFF for before in range(0, band, 16))
                if difference.bit_count() <= MAX_HASH_DISTANCE and not earlier:
                    yield first, second


def _perceptual_hash(pixels: Pixels) -> int:
    """pHash (Zauner 2010) of the mean band, stretched, as 16-bit chips are dark."""
    grey = pixels.astype(np.float32).mean(axis=2)
    low, high = np.percentile(grey, (1, 99.5))
    grey = np.clip((grey - low) / max(high - low, 1e-6), 0, 1) * 255
    return int(str(imagehash.phash(Image.fromarray(grey.astype(np.uint8)))), 16)


def _saturated(pixels: Pixels) -> float:
    if not np.issubdtype(pixels.dtype, np.integer):
        return 0.0
    return float((pixels == np.iinfo(pixels.dtype).max).mean())
