"""Chips of a split as tensors: from a packed cache of small byte images, augmented afresh each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain, repeat
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

from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.contract import Contract
from rsft.data.loading.packed_cache import load_packed_images
from rsft.data.loading.samplers import epoch_order
from rsft.types import Bytes, Indices, Progress

Batch = tuple[Tensor, Tensor]  # network inputs (b, ...) and labels (b,)
ProcessShard = tuple[int, int]
"""The number of a process and how many there are."""

SINGLE_PROCESS: ProcessShard = (0, 1)


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
        self.images: Bytes = load_packed_images(root, table, contract, progress)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> Sequence[str]:
        """Of the chips."""
        return list(self.table["name"])

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All chips in order, not augmented: (b, P, S, S) and (b,)."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))

    def batch(
        self, indices: Indices, augment: Callable[[int], NDArray[np.uint8]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The chips at `indices`: (b, P, S, S) float32 and labels (b,)."""
        images = [self.images[index] if augment is None else augment(int(index)) for index in indices]
        return torch.from_numpy(self.contract.normalize(images)), torch.from_numpy(self.labels[indices])


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

    Args:
        place: of this process; see `shares`.
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
            batch_sampler=[part.tolist() for part in shard_batches(indices, batch_size, shard)],
            num_workers=workers,
            collate_fn=_stack,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # the global one is the steps'
        )

    def __len__(self) -> int:
        return len(self.byte_batches)

    def __iter__(self) -> Iterator[Batch]:
        for images, labels in self.byte_batches:
            yield torch.from_numpy(self.contract.normalize(images.numpy())), labels


class BatchSource(Protocol):
    """Chips that give batches by index: images, or what was computed of them."""

    labels: Indices
    contract: Contract

    @property
    def names(self) -> Sequence[str]:
        """Of the chips."""

    def __len__(self) -> int:
        """Chips."""

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Network inputs (b, ...) and labels (b,), not augmented."""


class UnaugmentedLoader:
    """Batches of chips that are not augmented, in the order of `indices`; `place` as in `ChipLoader`."""

    def __init__(
        self, chips: BatchSource, indices: Indices, batch_size: int, shard: ProcessShard = SINGLE_PROCESS
    ) -> None:
        self.chips = chips
        self.parts = shard_batches(indices, batch_size, shard)

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.chips.batch, self.parts)


class PartialEpochLoader:
    """An epoch that was begun before: None stands for each batch that was trained on, and Lightning passes over it."""

    def __init__(self, rest: ChipLoader | UnaugmentedLoader, done: int) -> None:
        self.loader, self.batches_done = rest, done

    def __len__(self) -> int:
        return self.batches_done + len(self.loader)

    def __iter__(self) -> Iterator[Batch | None]:
        return chain(repeat(None, self.batches_done), self.loader)


class ChipDataModule(LightningDataModule):
    """Training batches of an epoch and validation batches.

    Args:
        train, val: the chips; images, where the training ones are augmented.
        augmentation: for training alone.
        members: the training chips that an epoch may use, by epoch; all where None.
        sampler: how an epoch takes them.
        seed: of order and augmentation.

    Attributes:
        order: the training chips of an epoch, over all processes.
        done: an epoch and how many of its batches were trained on before a resume.
    """

    def __init__(
        self,
        train: BatchSource,
        val: BatchSource,
        *,
        batch_size: int,
        eval_batch_size: int,
        augmentation: Augmentation,
        seed: int,
        workers: int = 0,
        candidates: Callable[[int], Indices] | None = None,
        sampler: str = "natural",
    ) -> None:
        super().__init__()
        self.sampler = sampler
        self.train, self.val = train, val
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.augmentation, self.seed, self.workers = augmentation, seed, workers
        self.candidates = candidates or (lambda epoch: np.arange(len(train)))
        self.chip_order = lru_cache(maxsize=1)(self._order)
        self.resume_point = (0, 0)

    def epoch(self) -> int:
        """The epoch that the trainer is in."""
        return self.trainer.current_epoch if self.trainer is not None else 0

    @property
    def shard(self) -> ProcessShard:
        """Of this process among those of the run."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else SINGLE_PROCESS

    def batch_indices(self, epoch: int, number: int) -> Indices:
        """The training chips of a batch, over all processes."""
        return self.chip_order(epoch)[number * self.batch_size :][: self.batch_size]

    def _order(self, epoch: int) -> Indices:
        return epoch_order(self.train.labels, self.candidates(epoch), self.sampler, self.seed, epoch)

    def train_dataloader(self) -> ChipLoader | UnaugmentedLoader | PartialEpochLoader:
        """In the sampler's order of (seed, epoch); made anew each epoch."""
        epoch = self.epoch()
        done = self.resume_point[1] if self.resume_point[0] == epoch else 0
        rest = self._loader(epoch, self.chip_order(epoch)[done * self.batch_size :])
        return PartialEpochLoader(rest, done) if done else rest

    def _loader(self, epoch: int, indices: Indices) -> ChipLoader | UnaugmentedLoader:
        if not self.augmentation.is_active:
            return UnaugmentedLoader(self.train, indices, self.batch_size, self.shard)
        assert isinstance(self.train, ChipImages)
        augmented = AugmentedChips(self.train, self.augmentation, self.seed, epoch)
        return ChipLoader(augmented, indices, self.batch_size, self.workers, self.shard)

    def val_dataloader(self) -> UnaugmentedLoader:
        """In order, not augmented; every process has a stretch of its own, and every chip is in one of them."""
        number, count = self.shard
        return UnaugmentedLoader(
            self.val, np.array_split(np.arange(len(self.val)), count)[number], self.eval_batch_size
        )


def shard_batches(indices: Indices, batch_size: int, shard: ProcessShard = SINGLE_PROCESS) -> list[Indices]:
    """Batches of `indices`, and of each of them what one of several processes takes: every n-th chip.

    Where a last, small batch has nothing for a process, it takes the first chip, which then weighs nothing (`weight`).
    """
    number, count = shard
    batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    return [batch[number::count] if number < len(batch) else batch[:1] for batch in batches]


def shard_loss_weight(size: int, shard: ProcessShard) -> float:
    """The factor of a process's mean loss with which the mean over the processes is that over all `size` chips."""
    number, count = shard
    return len(range(number, size, count)) * count / max(size, 1)


def _stack(items: list[tuple[Bytes, int]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*items, strict=True)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels)


def _start_worker(number: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism, and OpenCV's threads do not survive a fork
