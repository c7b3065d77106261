"""Chips of a split as tensors: from a packed cache of small byte images, augmented afresh each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pandas as pd
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rsft.chips.cache import packed_images
from rsft.chips.store import Progress
from rsft.imagery.augment import Augmentation
from rsft.imagery.contract import Contract

Bytes = NDArray[np.uint8]
Indices = NDArray[np.int64]


class ChipImages:
    """A table of chips, cropped and resized: images (N, S, S, P) uint8, memory-mapped, and labels (N,) int64.

    Raises:
        DataError: a chip that cannot be read or breaks the contract, named.
        RsftError: there is no room for the cache.
    """

    def __init__(
        self,
        root: Path,
        table: pd.DataFrame,
        classes: tuple[str, ...],
        contract: Contract,
        progress: Progress | None = None,
    ) -> None:
        self.table, self.contract = table, contract
        self.labels: Indices = np.array([classes.index(name) for name in table["class"]], np.int64)
        self.images: Bytes = packed_images(root, table, contract, progress)

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All chips in order, not augmented: (b, P, S, S) and (b,)."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))

    def batch(
        self, indices: Indices, augment: Callable[[int], NDArray[np.uint8]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The chips at `indices`: (b, P, S, S) float32 and labels (b,)."""
        images = [self.images[index] if augment is None else augment(int(index)) for index in indices]
        return torch.from_numpy(self.contract.normalise(images)), torch.from_numpy(self.labels[indices])


class AugmentedChips(Dataset[tuple[Bytes, int]]):
    """Chips as one epoch sees them: what is drawn depends on (seed, epoch, chip) and on nothing else."""

    def __init__(self, chips: ChipImages, augmentation: Augmentation, seed: int, epoch: int) -> None:
        self.chips, self.augmentation = chips, augmentation
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return len(self.chips)

    def image(self, index: int) -> Bytes:
        """The augmented chip as bytes (S, S, P)."""
        seed = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(1)[0]
        return self.augmentation(self.chips.images[index], int(seed))

    def __getitem__(self, index: int) -> tuple[Bytes, int]:
        return self.image(index), int(self.chips.labels[index])


class ChipLoader:
    """Batches (b, P, S, S) float32 and (b,) of augmented chips, in the order of `indices`.

    Workers send bytes, a quarter of the size; they become the network's input here, once a batch.
    """

    def __init__(self, augmented: AugmentedChips, indices: Sequence[int], batch_size: int, workers: int = 0) -> None:
        self.contract = augmented.chips.contract
        self.byte_batches = DataLoader(
            augmented,
            batch_size,
            sampler=indices,
            num_workers=workers,
            collate_fn=_stack,
            worker_init_fn=_start_worker,
        )

    def __len__(self) -> int:
        return len(self.byte_batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.byte_batches:
            yield torch.from_numpy(self.contract.normalise(images.numpy())), labels


class Batches(Protocol):
    """Chips that give batches by index: images, or what was computed of them."""

    labels: Indices
    contract: Contract

    def __len__(self) -> int:
        """Chips."""

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Network inputs (b, ...) and labels (b,), not augmented."""


class FixedLoader:
    """Batches of chips that are not augmented, in the order of `indices`."""

    def __init__(self, chips: Batches, indices: Indices, batch_size: int) -> None:
        self.chips = chips
        self.parts = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return map(self.chips.batch, self.parts)


class ChipData(LightningDataModule):
    """Training batches of an epoch and validation batches.

    Args:
        train, val: the chips; images, where the training ones are augmented.
        augmentation: for training alone.
        members: the training chips that an epoch may use, by epoch; all where None.
        seed: of order and augmentation.
    """

    def __init__(
        self,
        train: Batches,
        val: Batches,
        *,
        batch_size: int,
        eval_batch_size: int,
        augmentation: Augmentation,
        seed: int,
        workers: int = 0,
        members: Callable[[int], Indices] | None = None,
    ) -> None:
        super().__init__()
        self.train, self.val = train, val
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.augmentation, self.seed, self.workers = augmentation, seed, workers
        self.members = members or (lambda epoch: np.arange(len(train)))

    def epoch(self) -> int:
        """The epoch that the trainer is in."""
        return self.trainer.current_epoch if self.trainer is not None else 0

    def train_dataloader(self) -> ChipLoader | FixedLoader:
        """Shuffled by (seed, epoch); made anew each epoch."""
        epoch = self.epoch()
        order = np.random.default_rng((self.seed, epoch)).permutation(self.members(epoch))
        if not self.augmentation.changes:
            return FixedLoader(self.train, order, self.batch_size)
        assert isinstance(self.train, ChipImages)
        augmented = AugmentedChips(self.train, self.augmentation, self.seed, epoch)
        return ChipLoader(augmented, order.tolist(), self.batch_size, self.workers)

    def val_dataloader(self) -> FixedLoader:
        """In order, not augmented."""
        return FixedLoader(self.val, np.arange(len(self.val)), self.eval_batch_size)


def _stack(items: list[tuple[Bytes, int]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*items, strict=True)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def _start_worker(number: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism, and OpenCV's threads do not survive a fork
