"""Content hash, perceptual hash and saturation of chips, and the search for near-duplicates."""

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
"""Chips whose 64-bit hashes differ in at most this number of bits are near-duplicates."""
SATURATION_SHARE = 0.25
"""A chip is saturated if at least this share of its pixels has the largest value of the data type."""

_BIT_OFFSETS = range(0, 64, 16)  # hashes that differ in at most 3 bits agree in at least one of 4 runs of 16 bits


@dataclass(frozen=True)
class ChipContent:
    """Hashes and saturation of one chip file.

    Attributes:
        sha256: SHA-256 of the file, "" if it cannot be read.
        perceptual_hash: 64-bit pHash; None for an unusable file.
        saturated_share: share of the pixels with the largest value of an integer data type.
        fault: why the file is unusable, or "".
    """

    sha256: str
    perceptual_hash: int | None = None
    saturated_share: float = 0.0
    fault: str = ""


def read_chip_content(path: Path) -> ChipContent:
    """Read one chip; for a constant, damaged or missing file, `fault` gives the reason.

    Args:
        path: the file.

    Returns:
        Hashes and saturation of the chip.
    """
    try:
        digest = sha256(path)
        pixels = read_chip(path)
    except OSError as error:
        return ChipContent("", fault=f"the file cannot be read: {error.strerror}")
    except DataError as error:
        return ChipContent(digest, fault=error.message)
    return ChipContent(digest, _perceptual_hash(pixels), _saturated_share(pixels))


def read_chip_contents(paths: Sequence[Path], jobs: int, progress: Progress | None = None) -> list[ChipContent]:
    """Call `read_chip_content` for each path in parallel.

    Args:
        paths: the files (N,).
        jobs: number of processes.
        progress: called after each chip.

    Returns:
        One result per path, in order (N,).

    Raises:
        RsftError: a process was killed.
    """
    contents: dict[int, ChipContent] = {}
    for index, content in imap_unordered(_read_indexed, enumerate(paths), jobs):
        contents[index] = content
        if progress is not None:
            progress(len(contents), len(paths), "auditing chips")
    return [contents[index] for index in range(len(paths))]


def _read_indexed(task: tuple[int, Path]) -> tuple[int, ChipContent]:
    index, path = task
    return index, read_chip_content(path)


def find_near_duplicates(hashes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Find pairs of distinct hashes that differ in at most MAX_HASH_DISTANCE bits.

    By the pigeonhole principle, such a pair agrees in at least one run of 16 bits. Only hashes that share a run are
    compared.

    Args:
        hashes: 64-bit hashes.

    Yields:
        Each pair once, the smaller hash first.
    """
    distinct = sorted(set(hashes))
    for offset in _BIT_OFFSETS:
        buckets: dict[int, list[int]] = defaultdict(list)
        for value in distinct:
            buckets[value >> offset & 0xFFFF].append(value)
        for bucket in buckets.values():
            for first, second in combinations(bucket, 2):
                difference = first ^ second
                is_repeated = any(not difference >> before & 0xFFFF for before in range(0, offset, 16))
                if difference.bit_count() <= MAX_HASH_DISTANCE and not is_repeated:
                    yield first, second


def _perceptual_hash(pixels: Pixels) -> int:
    """Return the pHash (Zauner 2010) of the mean band, stretched first because 16-bit chips are dark."""
    gray = pixels.astype(np.float32).mean(axis=2)
    low, high = np.percentile(gray, (1, 99.5))
    gray = np.clip((gray - low) / max(high - low, 1e-6), 0, 1) * 255
    return int(str(imagehash.phash(Image.fromarray(gray.astype(np.uint8)))), 16)


def _saturated_share(pixels: Pixels) -> float:
    if not np.issubdtype(pixels.dtype, np.integer):
        return 0.0
    return float((pixels == np.iinfo(pixels.dtype).max).mean())
