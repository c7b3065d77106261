"""Time the way of chips from the store to the device, and count their bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH
from rsft.data.loading.batches import ChipImages, EpochBatches
from rsft.data.loading.byte_images import ByteImages, Inputs
from rsft.models.devices import copy_to_device
from rsft.training.assembly import worker_count
from tools.gpu_check.rows import Figure, Task
from tools.gpu_check.speed import wait_for

BATCH = 32
PEER = "normalized on the CPU"


def chip_tasks(
    store: Callable[[], Path], device: torch.device, side: int
) -> list[Task]:
    """Return the tasks: first with normalization on the CPU, then as rsft does it.

    Args:
        store: returns the chip store of the quick start.
        device: the device to check.
        side: side of the network inputs in pixels.
    """
    kinds = ((PEER, _normalized, ""), ("normalized on the device", _as_loaded, PEER))
    return [
        Task("chips", name, partial(measure_chips, store, device, side, prepare), peer)
        for name, prepare, peer in kinds
    ]


def measure_chips(
    store: Callable[[], Path],
    device: torch.device,
    side: int,
    prepare: Callable[[Inputs], Inputs],
) -> list[Figure]:
    """Load and augment the training chips of an epoch, and copy them to the device.

    Args:
        store: returns the chip store of the quick start.
        device: where the network inputs are needed.
        side: side of the network inputs in pixels.
        prepare: what the CPU does with a batch before it is copied.

    Returns:
        Bytes that are copied per chip, and chips per second of the second epoch.
    """
    batches = open_batches(store(), device, side)
    for epoch in range(2):  # the first one writes the cache
        chips = 0
        copied = 0
        start = time.perf_counter()
        for inputs, labels in batches.training_loader(epoch):
            prepared = prepare(inputs)
            copied += count_bytes(prepared)
            copy_to_device(prepared, device)
            chips += len(labels)
        wait_for(device)
        seconds = time.perf_counter() - start
    return [
        Figure(copied / chips, "bytes per chip"),
        Figure(chips / seconds, "chips/s"),
    ]


def open_batches(root: Path, device: torch.device, side: int) -> EpochBatches:
    """Return augmented gray chips of three planes, as an encoder of color images takes.

    Args:
        root: the chip store.
        device: decides how many processes read.
        side: side of the network inputs in pixels.
    """
    store = ChipStore.open(root)
    contract = Contract(
        units=dict.fromkeys(store.units, (IDENTITY_STRETCH,) * 3),
        bands=store.bands,
        planes=store.bands * 3,
        crop=None,
        size=side,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    chips = ChipImages(root, store.split("train"), store.classes, contract)
    return EpochBatches(
        chips,
        chips,
        batch_size=BATCH,
        eval_batch_size=BATCH,
        augmentation=Augmentation("sar", 3, side),
        seed=0,
        workers=worker_count("auto", device, 1, BATCH * 3 * side**2),
    )


def count_bytes(inputs: Inputs) -> int:
    """Return the bytes of inputs that are copied to the device."""
    return (inputs.images if isinstance(inputs, ByteImages) else inputs).nbytes


def _as_loaded(inputs: Inputs) -> Inputs:
    return inputs


def _normalized(inputs: Inputs) -> Tensor:
    return copy_to_device(inputs, "cpu")
