"""Chips decoded, cropped and resized once, as one memory-mapped file that is keyed by what it was made of."""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from platformdirs import user_cache_path

from rsft.data.chips.store import MANIFEST
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RsftError
from rsft.types import Bytes, Progress
from rsft.utils.atomic_files import atomic_file, sha256
from rsft.utils.process_pool import imap_unordered

Chunk = tuple[int, list[tuple[str, str, str]]]  # number of the first chip; path, unit and sha256 of each

_VERSION = 2  # of the images: to be raised when the same chips and contract would give others
_CHUNK = 32
_PAYS = 256  # chips from which a second process is worth its start


def load_packed_images(root: Path, table: pd.DataFrame, contract: Contract, progress: Progress | None = None) -> Bytes:
    """The chips of `table` as `contract` makes them bytes: (N, S, S, P), memory-mapped, read-only.

    Kept in `root`/.cache, or in the user's cache folder where `root` cannot be written. Made on first use, whole or not
    at all, and made again where the chips or the contract differ; what an earlier manifest left is removed.

    Raises:
        DataError: a chip that cannot be read, breaks the contract or is not the one in the manifest, named.
        RsftError: there is no room for it.
    """
    manifest = sha256(root / MANIFEST)[:12]
    folder = _cache_folder(root)
    path = folder / f"{manifest}-{_key(table, contract)}.npy"
    with FileLock(folder / "lock"):
        if not path.is_file():
            for stale in folder.glob("*.npy"):
                if not stale.name.startswith(manifest):
                    stale.unlink()
            try:
                _make(path, root, table, contract, progress)
            except OSError as error:
                fix = "make room there; it holds one small image a chip"
                raise RsftError(error.strerror or str(error), path, fix) from error
    images: Bytes = np.load(path, mmap_mode="r")
    return images


def _cache_folder(root: Path) -> Path:
    folder = root / ".cache"
    try:
        folder.mkdir(exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:  # a read-only root is a usual one: an archive, another user's data
        pass
    folder = user_cache_path("rsft") / "chips" / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _key(table: pd.DataFrame, contract: Contract) -> str:
    transform = contract.model_dump(mode="json", exclude={"mean", "std", "statistics"})
    told = json.dumps([_VERSION, transform, table["unit"].tolist(), table["sha256"].tolist()], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _make(path: Path, root: Path, table: pd.DataFrame, contract: Contract, progress: Progress | None) -> None:
    chips = list(zip(table["path"], table["unit"], table["sha256"], strict=True))
    shape = (len(chips), contract.size, contract.size, len(contract.planes))
    jobs = min(2, os.cpu_count() or 1) if len(chips) >= _PAYS else 1
    chunks = [(start, chips[start : start + _CHUNK]) for start in range(0, len(chips), _CHUNK)]
    with atomic_file(path) as temporary:
        offset = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape).offset  # a file of holes, with its header
        done = 0
        for count in imap_unordered(partial(_fill, temporary, offset, root, contract), chunks, jobs):
            done += count
            if progress is not None:
                progress(done, len(chips), "reading chips")


def _fill(file: Path, offset: int, root: Path, contract: Contract, chunk: Chunk) -> int:
    start, chips = chunk
    images = np.empty((len(chips), contract.size, contract.size, len(contract.planes)), np.uint8)
    for image, (path, unit, digest) in zip(images, chips, strict=True):
        try:
            image[:] = contract.to_image(read_chip(root / path), unit)
            if sha256(root / path) != digest:
                raise DataError("the chip is not the one that the manifest describes")
        except DataError as error:
            raise DataError(error.message, root / path, "prepare the data again, or remove the row") from error
    with file.open("r+b") as out:  # not through a mapping, where a full disk would end the process
        out.seek(offset + start * images[0].nbytes)
        out.write(images.tobytes())
    return len(chips)
