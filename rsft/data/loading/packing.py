"""Byte images of the chips of a split, cropped and resized, in a memory-mapped cache.

Nothing here imports torch.
"""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from platformdirs import user_cache_path

from rsft.data.chips.manifest import MANIFEST
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError
from rsft.types import Bytes, Pixels, Progress
from rsft.utils.atomic_files import atomic_file, sha256
from rsft.utils.process_pool import imap_unordered
from rsft.utils.write_errors import explain_os_error

_VERSION = 2  # increase it if the same chips and contract would give other images
_UNLABELED = "unlabeled"  # in place of the manifest of chips that have none
_KEPT_UNLABELED = 8  # cache files of them that stay
_CHUNK = 32  # chips per task of a worker process
_MIN_CHIPS_FOR_TWO_JOBS = (
    256  # for fewer chips, starting a second process takes longer than reading
)


def load_packed_images(
    root: Path,
    table: pd.DataFrame,
    contract: Contract,
    progress: Progress | None = None,
) -> Bytes:
    """Return the chips of `table` as byte images, from the cache or from their files.

    The cache is in `root`/.cache, or in the user's cache folder if `root` is read-only.
    It is written whole or not at all. Cache files of other manifests are removed.

    Args:
        root: folder of the chip store.
        table: manifest rows of the chips.
        contract: how a chip becomes a byte image.
        progress: called while chips are read.

    Returns:
        Images (N, S, S, P), memory-mapped and read-only.

    Raises:
        DataError: a chip cannot be read, does not match the contract, or has changed;
            the message names it.
        RsftError: the disk has no room for the cache.
    """
    folder = cache_folder(root)
    manifest = _UNLABELED
    if (root / MANIFEST).is_file():
        manifest = sha256(root / MANIFEST)[:12]
    transform = contract.model_dump(
        mode="json", exclude={"mean", "std", "statistics", "chip_standard", "side"}
    )
    key = hashlib.sha256(json.dumps([_VERSION, transform], sort_keys=True).encode())
    for column in ("unit", "sha256"):
        for text in table[column]:
            key.update(f"{text}\n".encode())
    path = folder / f"{manifest}-{key.hexdigest()[:16]}.npy"
    with FileLock(folder / "lock"):
        if not path.is_file():
            _remove_stale(folder, manifest)
            try:
                _write_cache(path, root, table, contract, progress)
            except OSError as error:
                raise explain_os_error(
                    error,
                    path,
                    "run the same command again: the cache has one image per chip",
                ) from error
    images: Bytes = np.load(path, mmap_mode="r")
    return images


def _remove_stale(folder: Path, manifest: str) -> None:
    """Remove cache files of other manifests.

    Of chips without a manifest, the newest files stay.
    """
    files = sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)
    kept = files[-_KEPT_UNLABELED:] if manifest == _UNLABELED else files
    for file in files:
        if file not in kept or not file.name.startswith(manifest):
            with suppress(OSError):  # Windows keeps a file that another process reads
                file.unlink()


def cache_folder(root: Path) -> Path:
    """Return and make the cache folder of a chip store.

    Chips without a manifest have one as well.
    """
    folder = user_cache_path("rsft") / "unlabeled"
    if (root / MANIFEST).is_file():
        # read-only roots are common: archives, data of another user
        with suppress(OSError):
            (root / ".cache").mkdir(exist_ok=True)
            if os.access(root / ".cache", os.W_OK):
                return root / ".cache"
        digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
        folder = user_cache_path("rsft") / "chips" / digest
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_cache(
    path: Path,
    root: Path,
    table: pd.DataFrame,
    contract: Contract,
    progress: Progress | None,
) -> None:
    shape = (len(table), contract.size, contract.size, len(contract.planes))
    jobs = 1
    if len(table) >= _MIN_CHIPS_FOR_TWO_JOBS:
        jobs = min(2, os.cpu_count() or 1)
    chips = table[["path", "unit", "sha256"]].itertuples(index=False, name=None)
    chunks = (
        (start, list(islice(chips, _CHUNK))) for start in range(0, len(table), _CHUNK)
    )
    with atomic_file(path) as temporary:
        # a header, then empty space
        offset = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape).offset
        done = 0
        for count in imap_unordered(
            partial(_pack_chunk, temporary, offset, root, contract), chunks, jobs
        ):
            done += count
            if progress is not None:
                progress(done, len(table), "reading chips")


def _pack_chunk(
    file: Path,
    offset: int,
    root: Path,
    contract: Contract,
    chunk: tuple[int, list[tuple[str, str, str]]],
) -> int:
    """Write the images of some chips.

    A chunk is the index of the first chip, and path, unit and SHA-256 of each.
    """
    start, chips = chunk
    images = np.empty(
        (len(chips), contract.size, contract.size, len(contract.planes)), np.uint8
    )
    for image, (path, unit, digest) in zip(images, chips, strict=True):
        image[:] = read_stored_image(
            root / path, digest, partial(contract.to_image, unit=unit)
        )
    # with a memory map, a full disk would kill the process
    with file.open("r+b") as out:
        out.seek(offset + start * images[0].nbytes)
        out.write(images.data)
    return len(chips)


def read_stored_image(
    path: Path, digest: str, convert: Callable[[Pixels], Bytes]
) -> Bytes:
    """Read a chip of a store as a byte image.

    Args:
        path: file of the chip.
        digest: SHA-256 of the file in the manifest.
        convert: makes a byte image (H, W, P) of pixels (H, W, B).

    Raises:
        DataError: the chip cannot be read, has changed, or cannot be converted.
    """
    try:
        return convert(read_chip(path, digest))
    except DataError as error:
        raise DataError(
            error.message, path, "prepare the data again, or remove the row"
        ) from error
