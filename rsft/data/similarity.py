"""Copies of a chip: equal pixels, also turned by 90 degrees or mirrored.

A near-duplicate passes two tests: 63 bits of the low frequencies of both chips, as in
pHash (Zauner 2010), and the correlation of both chips at 64 x 64 pixels. Each alone
also accepts different views of similar objects.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import chain

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rsft.data.imagery.resize import resize_image
from rsft.types import Bytes, Pixels

MAX_HASH_DISTANCE = 3
"""Near-duplicates have hashes that differ in at most this number of bits."""
MIN_CORRELATION = 0.95
"""Near-duplicates correlate at least so much. Copies as JPEG do; different views of one
vehicle on MSTAR have 0.92."""

Thumbnail = NDArray[np.float32]
"""(64, 64): mean band of a chip without its extreme values, with mean 0 and norm 1."""

_SIDE = 64
_FREQUENCIES = 8
_PERCENTILES = (1, 99.5)  # few bright scatterers would hide all else
# hashes that differ in at most 3 bits agree in at least one of 4 runs of 16 bits
_BIT_OFFSETS = range(0, 64, 16)
_BITS = np.array([value.bit_count() for value in range(2**16)], np.uint8)

_Hashes = NDArray[np.uint64]


def pixel_digest(pixels: Pixels) -> str:
    """Return a hexadecimal hash of shape, data type and values of a chip.

    The chip is (H, W, B).
    """
    if pixels.dtype.kind == "f":  # one pattern of bits for all NaN, and for 0 and -0
        pixels = np.where(np.isnan(pixels), np.float32(np.nan), pixels + np.float32(0))
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def orientations(image: Pixels) -> list[Pixels]:
    """Return the eight views of an image (H, W, ...) by a square's symmetries."""
    turned = [np.rot90(image, quarter) for quarter in range(4)]
    return turned + [np.fliplr(view) for view in turned]


def symmetric_digest(pixels: Pixels) -> str:
    """Return a hash of a chip (H, W, B) that its turned and mirrored copies share."""
    return min(map(pixel_digest, orientations(pixels)))


def make_thumbnail(pixels: Pixels) -> Thumbnail:
    """Return the thumbnail of a chip (H, W, B); all zeros for a constant chip."""
    gray = pixels.astype(np.float32).mean(axis=2, keepdims=True)
    if np.isnan(gray).any():
        gray = np.nan_to_num(gray, nan=float(np.nanmean(gray)))
    # power: the brightest pixels would outweigh all others
    if pixels.dtype.kind == "f" and gray.min() >= 0:
        gray = np.sqrt(gray)
    small = resize_image(gray, (_SIDE, _SIDE), by_area=True)[:, :, 0]
    small = np.clip(small, *np.percentile(small, _PERCENTILES))
    centered = small - small.mean()
    return np.asarray(
        centered / max(float(np.linalg.norm(centered)), 1e-12), np.float32
    )


def hash_similarity(pixels: Pixels) -> int:
    """Return the signs of the 8 x 8 lowest frequencies of a chip as 64 bits.

    The chip is (H, W, B). The first bit, the mean, is 0.
    """
    frequencies = cv2.dct(make_thumbnail(pixels))[:_FREQUENCIES, :_FREQUENCIES]
    frequencies[0, 0] = 0
    return int.from_bytes(np.packbits(frequencies > 0).tobytes())


def _orient_hashes(hashes: _Hashes) -> Iterator[_Hashes]:
    """Yield the hashes (N,) of the eight views of the chips.

    A mirror changes the sign of the odd frequencies.
    """
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8)).reshape(
        -1, _FREQUENCIES, _FREQUENCIES
    )
    is_odd = np.arange(_FREQUENCIES, dtype=np.uint8) % 2
    unchanged = np.zeros_like(is_odd)
    for view in (bits, bits.transpose(0, 2, 1)):
        for rows in (unchanged, is_odd):
            for columns in (unchanged, is_odd):
                mirrored = view ^ rows[:, np.newaxis] ^ columns
                packed = np.packbits(mirrored.reshape(-1, 64), axis=1)
                yield packed.view(">u8").ravel().astype(np.uint64)


def find_near_hashes(hashes: ArrayLike) -> set[tuple[int, int]]:
    """Find pairs of distinct hashes that nearly agree in one of the views.

    At most MAX_HASH_DISTANCE bits differ.

    By the pigeonhole principle, such a pair agrees in at least one run of 16 bits. Only
    hashes that share a run are compared.

    Args:
        hashes: numbers of `hash_similarity`.

    Returns:
        Each pair once, the smaller hash first.
    """
    values = np.unique(np.asarray(hashes, np.uint64))
    pairs = set[tuple[int, int]]()
    for views in _orient_hashes(values):
        for offset in _BIT_OFFSETS:
            runs = _run_at(values, offset)
            view_runs = _run_at(views, offset)
            order = np.argsort(view_runs, kind="stable")
            first = np.searchsorted(view_runs[order], runs, "left")
            end = np.searchsorted(view_runs[order], runs, "right")
            index = np.arange(len(values))
            # compare each hash with the view `step` places behind the first of its run
            for step in range(len(values)):
                index = index[first[index] + step < end[index]]
                if not len(index):
                    break
                others = order[first[index] + step]
                is_near = (
                    _count_bits(values[index] ^ views[others]) <= MAX_HASH_DISTANCE
                )
                is_near &= index != others
                pair = np.stack(
                    [values[index[is_near]], values[others[is_near]]], axis=1
                )
                pairs.update(map(tuple, np.sort(pair).tolist()))
    return pairs


def find_similar(
    hashes: ArrayLike, groups: ArrayLike, read: Callable[[int], Thumbnail]
) -> Iterator[tuple[int, int]]:
    """Yield the near-duplicates among chips.

    Args:
        hashes: hash of each chip (N,), see `hash_similarity`.
        groups: a number for each chip (N,). Only chips with different numbers are
            compared.
        read: returns the thumbnail of a chip by its position. The last 4,096 thumbnails
            are cached (64 MiB).

    Yields:
        Positions of two chips, the smaller one first.
    """
    values = np.asarray(hashes, np.uint64)
    numbers = np.asarray(groups)
    near = find_near_hashes(values)
    distinct, counts = np.unique(values, return_counts=True)
    repeated = distinct[counts > 1].tolist()
    is_candidate = np.isin(values, [*repeated, *chain.from_iterable(near)])
    rows_of = defaultdict(list)
    for row in np.flatnonzero(is_candidate).tolist():
        rows_of[int(values[row])].append(row)
    cached_read = lru_cache(maxsize=4096)(read)
    for value, other in sorted({*near, *((value, value) for value in repeated)}):
        rows = rows_of[value]
        others = np.array(rows_of[other])
        if len({*numbers[rows], *numbers[others]}) == 1:
            continue
        images = np.stack([cached_read(row).ravel() for row in others.tolist()])
        for row in rows:
            views = np.stack([view.ravel() for view in orientations(cached_read(row))])
            is_similar = (images @ views.T).max(axis=1) >= MIN_CORRELATION
            is_similar &= numbers[others] != numbers[row]
            if value == other:
                is_similar &= others > row
            for match in others[is_similar].tolist():
                yield min(row, match), max(row, match)


def _run_at(values: _Hashes, offset: int) -> NDArray[np.uint16]:
    return (values >> np.uint64(offset)).astype(np.uint16)


def _count_bits(values: _Hashes) -> Bytes:
    counts: Bytes = _BITS[values.view(np.uint16).reshape(-1, 4)].sum(
        axis=1, dtype=np.uint8
    )
    return counts
