"""Private chips and stores, and links to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from rsft.data.prepare.image_folder import prepare_folder
from tests.security.carriers import ROW, WORD, Place

CLASSES = ("flat", "slanted", "steep")


def write_private_store(folder: Path) -> Path:
    """Write a chip store of the classes of the honest one, whose chips have equal rows
    and the secret word in their names."""
    for split, count in {"train": 4, "val": 2}.items():
        for label, name in enumerate(CLASSES):
            chips = folder / "source" / split / name
            chips.mkdir(parents=True)
            for number in range(count):
                row = np.roll(ROW[:32], number + 7 * label + 3 * len(split))
                pixels = np.tile(row, (32, 1))
                cv2.imwrite(str(chips / f"{WORD}{number}.png"), pixels)
    shutil.copy(folder / f"source/train/flat/{WORD}0.png", folder / "chip.png")
    return prepare_folder(folder / "source", folder / "store").root


def private_chip(place: Place) -> Path:
    """Return a chip with the secret."""
    return place.secret.parent / "chip.png"


def private_store(place: Place) -> Path:
    return place.secret.parent / "store"


def link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def link_file(name: str, target: Callable[[Place], Path]):
    """Return a change of a folder: a file becomes a link."""

    def change(folder: Path, place: Place) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        link(folder / name, target(place))

    return change
