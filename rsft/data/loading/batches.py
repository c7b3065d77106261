"""Batches of tensors from the chips of a split: byte images in a memory-mapped cache, augmented anew in each epoch."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from platformdirs import user_cache_path
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rsft.data.chips.store import MANIFEST
from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.reader import read_chip
from rsft.data.loading.samplers import SINGLE_PROCESS, ProcessShard, shard_batches
from rsft.errors import DataError, RsftError
from rsft.recipe.registries import SAMPLERS
from rsft.types import Bytes, Indices, Pixels, Progress
from rsft.utils.atomic_files import atomic_file, sha256
from rsft.utils.process_pool import imap_unordered
from rsft.utils.write_errors import explain_os_error

Batch = tuple[Tensor, Tensor]
"""Network inputs (b, ...) and labels (b,)."""

_VERSION = 2  # increase it if the same chips and contract would give other images
_UNLABELED = "unlabeled"  # in place of the manifest of chips that have none
_KEPT_UNLABELED = 8  # cache files of them that stay
_CHUNK = 32  # chips per task of a worker process
_MIN_CHIPS_FOR_TWO_JOBS = 256  # for fewer chips, starting a second process takes longer than reading


def load_packed_images(root: Path, table: pd.DataFrame, contract: Contract, progress: Progress | None = None) -> Bytes:
    """Return the chips of `table` as byte images, from the cache or from their files.

    The cache is in `root`/.cache, or in the user's cache folder if `root` is read-only. It is written whole or not at
    all. Cache files of other manifests are removed.

    Args:
        root: folder of the chip store.
        table: manifest rows of the chips.
        contract: how a chip becomes a byte image.
        progress: called while chips are read.

    Returns:
        Images (N, S, S, P), memory-mapped and read-only.

    Raises:
        DataError: a chip cannot be read, does not match the contract, or has changed; the message names it.
        RsftError: the disk has no room for the cache.
    """
    folder, manifest = cache_folder(root), _UNLABELED
    if (root / MANIFEST).is_file():
        manifest = sha256(root / MANIFEST)[:12]
    transform = contract.model_dump(mode="json", exclude={"mean", "std", "statistics", "chip_standard"})
    key = json.dumps([_VERSION, transform, table["unit"].tolist(), table["sha256"].tolist()], sort_keys=True)
    path = folder / f"{manifest}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    with FileLock(folder / "lock"):
        if not path.is_file():
            _remove_stale(folder, manifest)
            try:
                _write_cache(path, root, table, contract, progress)
            except OSError as error:
                again = "run the same command again: the cache has one small image per chip"
                raise explain_os_error(error, path, again) from error
    images: Bytes = np.load(path, mmap_mode="r")
    return images


def _remove_stale(folder: Path, manifest: str) -> None:
    """Remove cache files of other manifests, and of chips without a manifest all but the newest ones."""
    files = sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)
    kept = files[-_KEPT_UNLABELED:] if manifest == _UNLABELED else files
    for file in files:
        if file not in kept or not file.name.startswith(manifest):
            with suppress(OSError):  # Windows keeps a file that another process reads
                file.unlink()


def cache_folder(root: Path) -> Path:
    """Return and make the folder of the cache of a chip store, or of chips without a manifest."""
    folder = root / ".cache"
    if not (root / MANIFEST).is_file():
        folder = user_cache_path("rsft") / "unlabeled"
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    try:
        folder.mkdir(exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:  # read-only roots are common: archives, data of another user
        pass
    folder = user_cache_path("rsft") / "chips" / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_cache(path: Path, root: Path, table: pd.DataFrame, contract: Contract, progress: Progress | None) -> None:
    chips = list(zip(table["path"], table["unit"], table["sha256"], strict=True))
    shape = (len(chips), contract.size, contract.size, len(contract.planes))
    jobs = min(2, os.cpu_count() or 1) if len(chips) >= _MIN_CHIPS_FOR_TWO_JOBS else 1
    chunks = [(start, chips[start : start + _CHUNK]) for start in range(0, len(chips), _CHUNK)]
    with atomic_file(path) as temporary:
        offset = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape).offset  # a header, then empty space
        done = 0
        for count in imap_unordered(partial(_pack_chunk, temporary, offset, root, contract), chunks, jobs):
            done += count
            if progress is not None:
                progress(done, len(chips), "reading chips")


def _pack_chunk(
    file: Path, offset: int, root: Path, contract: Contract, chunk: tuple[int, list[tuple[str, str, str]]]
) -> int:
    """Write the images of some chips; a chunk is the index of the first chip, and path, unit and SHA-256 of each."""
    start, chips = chunk
    images = np.empty((len(chips), contract.size, contract.size, len(contract.planes)), np.uint8)
    for image, (path, unit, digest) in zip(images, chips, strict=True):
        image[:] = _read_image(root / path, digest, partial(contract.to_image, unit=unit))
    with file.open("r+b") as out:  # with a memory map, a full disk would kill the process
        out.seek(offset + start * images[0].nbytes)
        out.write(images.data)
    return len(chips)


def _read_image(path: Path, digest: str, convert: Callable[[Pixels], Bytes]) -> Bytes:
    """Read a chip of a store as a byte image; `digest` is the SHA-256 of the file in the manifest."""
    try:
        return convert(read_chip(path, digest))
    except DataError as error:
        raise DataError(error.message, path, "prepare the data again, or remove the row") from error


class ChipImages:
    """Chips of a split, cropped and resized.

    Args:
        root: folder of the chip store.
        table: manifest rows of the chips.
        classes: class names in the order of the labels; empty for chips without labels.
        contract: how a chip becomes the network's input.
        progress: called while chips are read, if they are not in the cache.

    Attributes:
        images: bytes (N, S, S, P), memory-mapped.
        labels: class indices (N,) int64; -1 without classes.

    Raises:
        DataError: a chip cannot be read or does not match the contract; the message names it.
        RsftError: the disk has no room for the cache.
    """

    def __init__(
        self,
        root: Path,
        table: pd.DataFrame,
        classes: tuple[str, ...],
        contract: Contract,
        progress: Progress | None = None,
    ) -> None:
        self.root, self.table, self.contract = root, table, contract
        self.labels: Indices = np.array([classes.index(name) if classes else -1 for name in table["class"]], np.int64)
        self.images: Bytes = load_packed_images(root, table, contract, progress)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def cache_file(self) -> Path:
        """The file of `images`. Its name depends on the manifest, the chips and the contract, in this order."""
        return Path(str(self.images.filename))  # type: ignore[attr-defined]  # a memory map has a file

    @property
    def names(self) -> Sequence[str]:
        """Names of the chips (N,)."""
        return list(self.table["name"])

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all chips in order, without augmentation: inputs (b, P, S, S) float32 and labels (b,).

        Yields:
            Network inputs (b, P, S, S) float32 and labels (b,).
        """
        yield from UnaugmentedLoader(self, np.arange(len(self)), size)

    def batch(self, indices: Indices, images: Sequence[Bytes] | None = None) -> tuple[Tensor, Tensor]:
        """Return one batch of chips.

        Args:
            indices: indices of the chips (b,).
            images: b augmented images (S, S, P) in their place; None takes the images unchanged.

        Returns:
            Network inputs (b, P, S, S) float32 and labels (b,).
        """
        images = [self.images[index] for index in indices] if images is None else images
        return torch.from_numpy(self.contract.normalize(images)), torch.from_numpy(self.labels[indices])

    def full_size_image(self, index: int) -> Bytes:
        """Read a chip from its file, cropped but not resized.

        Returns:
            Image (h, w, P).

        Raises:
            DataError: the chip cannot be read, or has changed; the message names it.
        """
        chip = self.table.iloc[index]
        convert = partial(self.contract.to_image, unit=chip["unit"], resize=False)
        return _read_image(self.root / chip["path"], chip["sha256"], convert)


class AugmentedChips(Dataset[tuple[Bytes, int] | RsftError]):
    """Augmented images of one epoch; the augmentation of a chip only depends on (seed, epoch, chip).

    Args:
        chips: the images.
        augmentation: the transforms.
        seed: seed of the run.
        epoch: number of the epoch from 0.
    """

    def __init__(self, chips: ChipImages, augmentation: Augmentation, seed: int, epoch: int) -> None:
        self.chips, self.augmentation = chips, augmentation
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return len(self.chips)

    def images(self, indices: Indices, threads: int) -> list[Bytes]:
        """Return the augmented images (S, S, P) of some chips (b,).

        `threads` read the files, if the augmentation takes the chips at their full size.
        """
        if not self.augmentation.resizes:
            return [self._augment(self._original(index), index) for index in indices.tolist()]
        with ThreadPoolExecutor(threads) as pool:  # the augmentation itself has one random generator
            originals = pool.map(self._original, indices.tolist())
            return [self._augment(image, index) for image, index in zip(originals, indices.tolist(), strict=True)]

    def _original(self, index: int) -> Bytes:
        """Return the image that is augmented: the whole chip (h, w, P) if the augmentation resizes, else (S, S, P)."""
        return self.chips.full_size_image(index) if self.augmentation.resizes else self.chips.images[index]

    def _augment(self, image: Bytes, index: int) -> Bytes:
        seed = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(1)[0]
        return self.augmentation(image, int(seed))

    def __getitem__(self, index: int) -> tuple[Bytes, int] | RsftError:
        try:
            return self._augment(self._original(index), index), int(self.chips.labels[index])
        except RsftError as error:  # returned, because the loader turns an exception of a worker into a long text
            return error


class ChipLoader:
    """Batches of augmented chips: inputs (b, P, S, S) float32 and labels (b,).

    Workers send bytes, which need a quarter of the memory of floats. The main process normalizes them batch by batch.

    Args:
        augmented: the chips of an epoch.
        indices: their order, over all processes.
        batch_size: chips per batch, over all processes.
        workers: number of worker processes.
        shard: rank and number of processes, see `shard_batches`.
    """

    def __init__(
        self,
        augmented: AugmentedChips,
        indices: Indices,
        batch_size: int,
        workers: int = 0,
        shard: ProcessShard = SINGLE_PROCESS,
    ) -> None:
        self.contract = augmented.chips.contract
        self.byte_batches = DataLoader(
            augmented,
            batch_sampler=[batch.tolist() for batch in shard_batches(indices, batch_size, shard)],
            num_workers=workers,
            collate_fn=_stack,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # leaves the global generator to the training steps
        )

    def __len__(self) -> int:
        return len(self.byte_batches)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.byte_batches:
            if isinstance(batch, RsftError):
                raise batch
            images, labels = batch
            yield torch.from_numpy(self.contract.normalize(images.numpy())), labels


class BatchSource(Protocol):
    """Source of batches by index: images, or features that were computed from them.

    Attributes:
        labels: class indices (N,).
        contract: how a chip becomes the network's input.
    """

    labels: Indices
    contract: Contract

    @property
    def names(self) -> Sequence[str]:
        """Names of the chips (N,)."""

    def __len__(self) -> int:
        """Number of chips."""

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return the chips at `indices` (b,) without augmentation: inputs (b, ...) and labels (b,).

        Returns:
            Network inputs (b, P, S, S) float32 and labels (b,).
        """


class UnaugmentedLoader:
    """Batches of chips without augmentation: inputs (b, ...) and labels (b,).

    Args:
        chips: the chips.
        indices: their order, over all processes.
        batch_size: chips per batch, over all processes.
        shard: rank and number of processes, see `shard_batches`.
    """

    def __init__(
        self, chips: BatchSource, indices: Indices, batch_size: int, shard: ProcessShard = SINGLE_PROCESS
    ) -> None:
        self.chips = chips
        self.batches = shard_batches(indices, batch_size, shard)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.chips.batch, self.batches)


@dataclass(eq=False)
class EpochBatches:
    """The training batches of every epoch, and the validation batches, of one of several processes.

    Attributes:
        train: training chips; must be images if they are augmented.
        val: validation chips.
        batch_size: training chips per batch, over all processes.
        eval_batch_size: validation chips per batch and process.
        augmentation: augmentation of the training chips.
        seed: seed of order and augmentation.
        workers: number of worker processes.
        members: returns the training chips that an epoch may use, by epoch; None for all.
        sampler: name of the sampler.
        shard: rank of this process, and the number of processes.
        chip_order: returns the training chips of an epoch in order, over all processes.
    """

    train: BatchSource
    val: BatchSource
    _: KW_ONLY
    batch_size: int
    eval_batch_size: int
    augmentation: Augmentation
    seed: int
    workers: int = 0
    members: Callable[[int], Indices] | None = None
    sampler: str = "natural"
    shard: ProcessShard = SINGLE_PROCESS

    def __post_init__(self) -> None:
        self.chip_order = lru_cache(maxsize=1)(self._order)

    def steps(self, epoch: int) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self.chip_order(epoch)) // self.batch_size)

    def batch_indices(self, epoch: int, number: int) -> Indices:
        """Select the training chips of a batch of an epoch, over all processes; both numbers count from 0.

        Returns:
            Indices (b,).
        """
        return self.chip_order(epoch)[number * self.batch_size :][: self.batch_size]

    def training_loader(self, epoch: int, first: int = 0) -> ChipLoader | UnaugmentedLoader:
        """Return the training batches of an epoch from the batch `first`: a resumed run begins within an epoch.

        Returns:
            A loader of this process's part of each batch.
        """
        indices = self.chip_order(epoch)[first * self.batch_size :]
        if self.augmentation.is_active:
            return ChipLoader(self._augmented(epoch), indices, self.batch_size, self.workers, self.shard)
        return UnaugmentedLoader(self.train, indices, self.batch_size, self.shard)

    def load(self, indices: Indices, epoch: int) -> Batch:
        """Return this process's part of a batch of training chips, augmented as in an epoch: inputs and labels.

        Returns:
            Network inputs (b, ...) and labels (b,).
        """
        chips = shard_batches(indices, len(indices), self.shard)[0]
        if isinstance(self.train, ChipImages) and self.augmentation.is_active:
            return self.train.batch(chips, self._augmented(epoch).images(chips, max(1, self.workers)))
        return self.train.batch(chips)

    def validation_loader(self) -> UnaugmentedLoader:
        """Return the validation batches; every process loads a contiguous part of the chips, in order."""
        rank, world_size = self.shard
        indices = np.array_split(np.arange(len(self.val)), world_size)[rank]
        return UnaugmentedLoader(self.val, indices, self.eval_batch_size)

    def _augmented(self, epoch: int) -> AugmentedChips:
        assert isinstance(self.train, ChipImages)
        return AugmentedChips(self.train, self.augmentation, self.seed, epoch)

    def _order(self, epoch: int) -> Indices:
        members = np.arange(len(self.train)) if self.members is None else self.members(epoch)
        rng = np.random.default_rng((self.seed, epoch))
        return SAMPLERS[self.sampler]().draw(self.train.labels, members, len(members), rng)


def _stack(items: list[tuple[Bytes, int] | RsftError]) -> tuple[Tensor, Tensor] | RsftError:
    """Return a batch, or the first error of its chips."""
    for item in items:
        if isinstance(item, RsftError):
            return item
    images, labels = zip(*items, strict=True)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def _start_worker(number: int) -> None:
    cv2.setNumThreads(0)  # workers run in parallel already, and OpenCV's threads do not survive a fork
