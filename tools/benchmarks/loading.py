"""Time the loading of augmented chips: torchvision's ImageFolder against the packed cache."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import IDENTITY_STRETCH
from rsft.data.loading.batches import ChipImages, EpochBatches
from rsft.data.prepare.image_folder import prepare_folder
from rsft.models.devices import copy_batch

SIZE = 224
BATCH = 32
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
Times = dict[str, list[float]]


def write_images(folder: Path, chips: int) -> None:
    """Write 8-bit chips of 512 x 512 pixels and two classes, as class folders and as a chip store."""
    rng = np.random.default_rng(0)
    for index in range(chips):
        path = folder / "images" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw_chip(rng))
    prepare_folder(folder / "images", folder / "chips", val=0)


def bench_loading(folder: Path, repeats: int, table: Table, workers: int = 1) -> None:
    """Time the first epoch and later epochs with some workers each; the first one also uses two processes in rsft."""
    root = folder / "chips"
    chips = len(ChipStore.open(root).table)
    augmentations: dict[Literal["optical", "sar"], list[Any]] = {
        "optical": optical_steps(),
        "sar": sar_steps(),
    }
    for name, steps in augmentations.items():
        times: dict[str, Times] = {
            "first": {"plain": [], "rsft": []},
            "later": {"plain": [], "rsft": []},
        }
        for _ in range(repeats):
            for epoch, duration in enumerate(
                plain_epochs(folder / "images", steps, workers)
            ):
                times["later" if epoch else "first"]["plain"].append(
                    1e3 * duration / chips
                )
            for file in (root / ".cache").glob("*.npy"):
                file.unlink()
            for epoch, duration in enumerate(rsft_epochs(root, name, workers)):
                times["later" if epoch else "first"]["rsft"].append(
                    1e3 * duration / chips
                )
        for when, label in (("first", "first epoch"), ("later", "later epochs")):
            add_row(
                table,
                f"{name} augmentation, workers: {workers}, {label}, ms per chip",
                times[when],
            )


def draw_chip(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a chip (512, 512) of sea with a bright ship."""
    image = 20 * np.sqrt(rng.gamma(4, 0.25, (512, 512)))
    image[240:272, 180:330] *= 6
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def plain_epochs(folder: Path, steps: list[Any], workers: int) -> Iterator[float]:
    """Yield the seconds of two epochs with torchvision's ImageFolder."""
    to_tensor = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    chips = ImageFolder(
        str(folder),
        v2.Compose([v2.Resize((SIZE, SIZE)), *steps, v2.PILToTensor(), *to_tensor]),
    )
    for _ in range(2):
        yield seconds(
            lambda: drain(
                DataLoader(chips, batch_size=BATCH, shuffle=True, num_workers=workers)
            )
        )


def rsft_epochs(
    root: Path, name: Literal["optical", "sar"], workers: int
) -> Iterator[float]:
    """Yield the seconds of two epochs; the first one writes the packed cache."""
    store = ChipStore.open(root)
    contract = Contract(
        units={"uint8": (IDENTITY_STRETCH,) * 3},
        bands=store.bands,
        planes=store.bands * 3,
        crop=None,
        size=SIZE,
        mean=MEAN,
        std=STD,
    )

    def epoch() -> None:
        chips = ChipImages(root, store.table, store.classes, contract)
        data = EpochBatches(
            chips,
            chips,
            batch_size=BATCH,
            eval_batch_size=BATCH,
            augmentation=Augmentation(name),
            seed=0,
            workers=workers,
        )
        drain(copy_batch(batch, "cpu") for batch in data.training_loader(0))

    for _ in range(2):
        yield seconds(epoch)


def optical_steps() -> list[Any]:
    """Return torchvision transforms like those of Augmentation("optical")."""
    rotate = v2.RandomChoice(
        [
            v2.Lambda(partial(Image.Image.rotate, angle=angle))
            for angle in (0, 90, 180, 270)
        ]
    )
    move = v2.RandomAffine(
        0, (0.08, 0.08), (0.8, 1.2), interpolation=v2.InterpolationMode.BILINEAR
    )
    color = v2.ColorJitter(0.2, 0.2, 0.2, 0.03)
    return [
        v2.RandomHorizontalFlip(),
        rotate,
        v2.RandomApply([move], 0.7),
        v2.RandomApply([color], 0.5),
    ]


def sar_steps() -> list[Any]:
    """Return torchvision transforms and speckle like those of Augmentation("sar")."""
    move = v2.RandomAffine(
        15, (0.08, 0.08), (0.85, 1.15), interpolation=v2.InterpolationMode.BILINEAR
    )
    light = v2.ColorJitter(0.15, 0.15)
    noise = v2.Lambda(multiply_speckle)
    return [
        v2.RandomHorizontalFlip(),
        v2.RandomApply([move], 0.9),
        v2.RandomApply([light], 0.5),
        v2.RandomApply([noise], 0.5),
    ]


def multiply_speckle(image: Image.Image) -> Image.Image:
    """Multiply by speckle of 6 to 30 looks, like `rsft.data.imagery.speckle.Speckle`."""
    rng = np.random.default_rng(int(torch.randint(2**31, ())))
    looks = rng.uniform(6, 30)
    gain = np.sqrt(rng.gamma(looks, 1 / looks, (SIZE, SIZE, 1)), dtype=np.float32)
    return Image.fromarray(
        np.clip(np.rint(np.asarray(image) * gain), 0, 255).astype(np.uint8)
    )


def drain(batches: Iterable[object]) -> None:
    """Iterate over all batches."""
    for _ in batches:
        pass


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes: elapsed, or with RSFT_BENCH_CPU processor time, also of child processes."""
    start = _clock()
    work()
    return _clock() - start


def _clock() -> float:
    if "RSFT_BENCH_CPU" in os.environ:
        return sum(os.times()[:4])
    return time.perf_counter()


def add_row(table: Table, label: str, times: Times) -> None:
    """Add the medians of both implementations and their ratio."""
    plain = statistics.median(times["plain"])
    rsft = statistics.median(times["rsft"])
    table.add_row(label, f"{plain:.2f}", f"{rsft:.2f}", f"{plain / rsft:.2f}")
