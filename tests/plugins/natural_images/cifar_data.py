"""Write small copies of CIFAR-100: class folders, and the published files."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsft.plugins.natural_images.cifar100 import CLASSES, PICKLES, PickledCIFAR100


def write_folders(root: Path, counts: dict[str, int]) -> Path:
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng(index).integers(
                0, 256, (32, 32, 3), dtype=np.uint8
            )
            Image.fromarray(pixels).save(root / folder / f"{index}.png")
    return root


def write_pickles(
    root: Path, monkeypatch: pytest.MonkeyPatch, train: int = 200, test: int = 100
) -> Path:
    """Write the published files with few images, and patch their checksums."""
    (root / PICKLES).mkdir(parents=True)
    sums = {}
    for name, count in {"train": train, "test": test}.items():
        pixels = np.random.default_rng(count).integers(
            0, 256, (count, 3072), dtype=np.uint8
        )
        labels = [index % 100 for index in range(count)]
        sums[name] = dump(
            root / PICKLES / name, {"data": pixels, "fine_labels": labels}
        )
    meta = dump(root / PICKLES / "meta", {"fine_label_names": list(CLASSES)})
    monkeypatch.setattr(PickledCIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(PickledCIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(PickledCIFAR100, "meta", PickledCIFAR100.meta | {"md5": meta})
    return root


def dump(path: Path, content: object) -> str:
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()
