"""Batches of tensors from the chips of a split, augmented anew in each epoch."""

import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.contract import Contract
from rsft.data.loading.byte_images import ByteImages, Inputs
from rsft.data.loading.packing import load_packed_images, read_stored_image
from rsft.data.loading.samplers import SINGLE_PROCESS, ProcessShard, shard_batches
from rsft.errors import RsftError
from rsft.recipe.registries import SAMPLERS
from rsft.types import Bytes, Indices, Names, Progress

# images, whose pages and the 15 after them are in memory until they are given back
_READS = 256

Batch = tuple[Tensor, Tensor]
"""Network inputs (b, ...) and labels (b,) on the device of the network."""

LoadedBatch = tuple[Inputs, Tensor]
"""Inputs and labels (b,) before they are copied to the device of the network."""


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
        DataError: a chip cannot be read or does not match the contract; the message
            names it.
        RsftError: the disk has no room for the cache.
    """

    def __init__(
        self,
        root: Path,
        table: pd.DataFrame,
        classes: Names,
        contract: Contract,
        progress: Progress | None = None,
    ) -> None:
        self.root = root
        self.table = table
        self.contract = contract
        self.labels: Indices = np.array(
            [classes.index(name) if classes else -1 for name in table["class"]],
            np.int64,
        )
        self.images: Bytes = load_packed_images(root, table, contract, progress)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def cache_file(self) -> Path:
        """The file of `images`.

        Its name depends on the manifest, the chips and the contract, in this order.
        """
        return Path(str(self.images.filename))  # type: ignore[attr-defined]  # a memory map has a file

    @property
    def names(self) -> Sequence[str]:
        """Names of the chips (N,)."""
        return list(self.table["name"])

    def image(self, index: int) -> Bytes:
        """Return image (S, S, P).

        From time to time, the memory of the images that were read is given back.
        """
        self.reads += 1
        if self.reads % _READS == 0 and hasattr(mmap, "MADV_DONTNEED"):
            self.images.base.madvise(mmap.MADV_DONTNEED)  # type: ignore[union-attr]  # of a memory map
        image: Bytes = self.images[index]
        return image

    def batches(self, size: int) -> "ChipLoader":
        """Return batches of all chips in order: inputs and labels (b,)."""
        return ChipLoader(self.batch, np.arange(len(self)), size)

    def batch(
        self, indices: Indices, images: Sequence[Bytes] | None = None
    ) -> LoadedBatch:
        """Return one batch of chips.

        Args:
            indices: indices of the chips (b,).
            images: b augmented images in their place; None takes the images unchanged.

        Returns:
            Inputs and labels (b,).
        """
        if images is None:
            images = [self.image(index) for index in indices]
        labels = torch.from_numpy(self.labels[indices])
        return ByteImages.stack(images, self.contract), labels

    def full_size_image(self, index: int) -> Bytes:
        """Read a chip from its file, cropped but not resized.

        Returns:
            Image (h, w, P).

        Raises:
            DataError: the chip cannot be read, or has changed; the message names it.
        """
        chip = self.table.iloc[index]
        convert = partial(self.contract.to_image, unit=chip["unit"], resize=False)
        return read_stored_image(self.root / chip["path"], chip["sha256"], convert)


@dataclass(frozen=True)
class AugmentedChips:
    """Augmented images of one epoch.

    The augmentation of a chip only depends on (seed, epoch, chip).

    Attributes:
        chips: the images.
        augmentation: the transforms.
        seed: seed of the run.
        epoch: number of the epoch from 0.
    """

    chips: ChipImages
    augmentation: Augmentation
    seed: int
    epoch: int

    def batch(self, indices: Indices) -> LoadedBatch:
        """Return the augmented chips at `indices` (b,): inputs and labels (b,)."""
        return self.chips.batch(indices, list(map(self._image, indices.tolist())))

    def _image(self, index: int) -> Bytes:
        """Return the augmented image (S, S, P) of a chip.

        It is (S, S, 1) if all planes have the same bytes.
        """
        if self.augmentation.resizes:
            image = self.chips.full_size_image(index)
        else:
            image = self.chips.image(index)
        if self.chips.contract.has_equal_planes:
            image = image[:, :, :1]
        seeds = np.random.SeedSequence((self.seed, self.epoch, index))
        return self.augmentation(image, int(seeds.generate_state(1)[0]))


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

    def batch(self, indices: Indices) -> LoadedBatch:
        """Return the chips at `indices` (b,) without augmentation.

        Returns:
            Inputs and labels (b,).
        """


class ChipLoader(Dataset[LoadedBatch | RsftError]):
    """Batches of chips: inputs and labels (b,).

    Args:
        load: returns the batch of some chips (b,), for example `ChipImages.batch`.
        indices: the chips in order, over all processes.
        batch_size: chips per batch, over all processes.
        shard: rank and number of processes, see `shard_batches`.
        workers: number of worker processes, each of which loads whole batches.

    Attributes:
        count: number of chips of this process.
    """

    def __init__(
        self,
        load: Callable[[Indices], LoadedBatch],
        indices: Indices,
        batch_size: int,
        shard: ProcessShard = SINGLE_PROCESS,
        workers: int = 0,
    ) -> None:
        self.load = load
        self.batches = shard_batches(indices, batch_size, shard)
        self.count = sum(map(len, self.batches))
        self.workers = min(workers, len(self.batches))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> LoadedBatch | RsftError:
        try:
            return self.load(self.batches[number])
        # returned, because the loader turns an exception of a worker into a long text
        except RsftError as error:
            return error

    def __iter__(self) -> Iterator[LoadedBatch]:
        loaded = DataLoader(
            self,
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_keep,
            worker_init_fn=_start_worker,
            # leaves the global generator to the training steps
            generator=torch.Generator(),
        )
        for batch in loaded:
            if isinstance(batch, RsftError):
                raise batch
            yield batch


@dataclass(eq=False)
class EpochBatches:
    """The training and validation batches of one of several processes.

    Attributes:
        train: training chips; must be images if they are augmented.
        val: validation chips.
        batch_size: training chips per batch, over all processes.
        eval_batch_size: validation chips per batch and process.
        augmentation: augmentation of the training chips.
        seed: seed of order and augmentation.
        workers: number of worker processes.
        members: returns the training chips that an epoch may use, by epoch; None for
            all.
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
        """Select the training chips of a batch of an epoch, over all processes.

        Both numbers count from 0.

        Returns:
            Indices (b,).
        """
        return self.chip_order(epoch)[number * self.batch_size :][: self.batch_size]

    def training_loader(self, epoch: int, first: int = 0) -> ChipLoader:
        """Return the training batches of an epoch from the batch `first` on.

        A resumed run begins within an epoch.

        Returns:
            A loader of this process's part of each batch.
        """
        indices = self.chip_order(epoch)[first * self.batch_size :]
        workers = self.workers if self.augmentation.is_active else 0
        load = self._source(epoch).batch
        return ChipLoader(load, indices, self.batch_size, self.shard, workers)

    def load(self, indices: Indices, epoch: int) -> LoadedBatch:
        """Return this process's part of a training batch, augmented.

        Returns:
            Inputs and labels (b,).
        """
        chips = shard_batches(indices, len(indices), self.shard)[0]
        return self._source(epoch).batch(chips)

    def validation_loader(self) -> ChipLoader:
        """Return the validation batches.

        Every process loads a contiguous part of the chips, in order.
        """
        rank, world_size = self.shard
        indices = np.array_split(np.arange(len(self.val)), world_size)[rank]
        return ChipLoader(self.val.batch, indices, self.eval_batch_size)

    def _source(self, epoch: int) -> AugmentedChips | BatchSource:
        """Return what loads the training batches of an epoch."""
        if not self.augmentation.is_active:
            return self.train
        assert isinstance(self.train, ChipImages)
        return AugmentedChips(self.train, self.augmentation, self.seed, epoch)

    def _order(self, epoch: int) -> Indices:
        if not self.members:
            members = np.arange(len(self.train))
        else:
            members = self.members(epoch)
        rng = np.random.default_rng((self.seed, epoch))
        return SAMPLERS[self.sampler]().draw(
            self.train.labels, members, len(members), rng
        )


def _keep(batch: Any) -> Any:
    """Return a batch as it is, where the loader would put one together."""
    return batch


def _start_worker(number: int) -> None:
    # workers run in parallel already, and OpenCV's threads do not survive a fork
    cv2.setNumThreads(0)
