"""SRSDD-v1.0: 666 Gaofen-3 spotlight images with 2,884 ships in rotated boxes.

Lei et al. 2021, "SRSDD-v1.0: a high-resolution SAR rotation ship detection dataset", Remote Sensing 13, 5104.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from numpy.typing import NDArray
from torchgeo.datasets import NonGeoDataset

from rsft.data.datasets._dota.labels import build_class_lookup, read_label_file
from rsft.data.datasets._plotting import to_image_tensor
from rsft.data.imagery.image_cache import LastImageCache
from rsft.data.imagery.reader import IMAGE_SUFFIXES, read_chip
from rsft.errors import DataError, RequestError
from rsft.types import Pixels, Rejection

CLASSES = ("Cell-Container", "Container", "Fishing", "LawEnforce", "Dredger", "ore-oil")
SRSDD_SPACING_M = 1.0
"""Pixel spacing in meters."""

CHIP_SIZE_STEP = 64
"""The size of a chip is a multiple of this number of pixels."""

_MIN_AREA = 1.0  # square pixels
_CLASS_LOOKUP = build_class_lookup(CLASSES)


@dataclass(frozen=True)
class SRSDDShip:
    """A ship in an image.

    Attributes:
        image: the image that contains it.
        label_file: the label file of the image.
        line: line number in the label file, from 1.
        number: row number in the label file below the header, from 1; unusable rows count too.
        category: class name.
        box: corners x1 y1 ... x4 y4 in pixels of the image.
        difficult: difficulty in the label file: 0, 1 or 2.
    """

    image: Path
    label_file: Path
    line: int
    number: int
    category: str
    box: tuple[float, ...]
    difficult: int

    @property
    def name(self) -> str:
        """Name in the FUSRS lists: L<image>_<number>."""
        stem = self.image.stem
        return f"L{int(stem) if stem.isdecimal() else stem}_{self.number}"

    @property
    def window(self) -> tuple[int, int, int]:
        """Left, top and size of the square chip around the box, in pixels; it may leave the image."""
        corners = np.reshape(self.box, (4, 2))
        low, high = corners.min(axis=0), corners.max(axis=0)
        side = CHIP_SIZE_STEP * int(np.ceil(max(1.0, (high - low).max()) / CHIP_SIZE_STEP))
        left, top = np.rint((low + high) / 2 - side / 2).astype(int).tolist()
        return left, top, side

    @property
    def box_in_chip(self) -> list[float]:
        """Corners x1 y1 ... x4 y4 of the box in pixels of the chip."""
        left, top, _ = self.window
        return [float(value) for value in np.array(self.box) - np.tile((left, top), 4)]


class SRSDD(NonGeoDataset):
    """SRSDD-v1.0, one sample per image.

    An image and its label file have the same stem; their folders do not matter.

    Args:
        root: the folder.
        transforms: applied to each sample.

    Attributes:
        classes: class names in the order of the labels.
        ships: by image, then in file order.
        images: the images with labels, sorted by number.
        skipped: number of images without labels, by reason.
        rejected: rows and files that cannot be used.

    Raises:
        RequestError: no image has a label file.
    """

    classes: ClassVar[tuple[str, ...]] = CLASSES

    def __init__(self, root: Path, transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> None:
        self.root, self.transforms = root, transforms
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        self.ships: list[SRSDDShip] = []
        files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
        images = self._by_stem([path for path in files if path.suffix.lower() in IMAGE_SUFFIXES])
        labels = self._by_stem([path for path in files if path.suffix.lower() == ".txt"])
        self.images = [images[stem] for stem in sorted(images, key=_natural_sort_key) if stem in labels]
        if not self.images:
            raise RequestError("no image has a label file of the same name", root, "give the folder of SRSDD-v1.0")
        for image in self.images:
            self._read_ships(labels[image.stem], image)
        for stem in sorted(labels.keys() - images.keys()):
            self.rejected.append((str(labels[stem]), 0, f"image {stem} is missing"))
        unlabeled = len(images) - len(self.images)
        if unlabeled:
            self.skipped["image without a label file"] = unlabeled

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample.

        Args:
            index: position of the sample.

        Returns:
            image: (1, H, W) float32; boxes: (N, 8) float32 corners; labels: (N,) indices into `classes`.
        """
        path = self.images[index]
        ships = [ship for ship in self.ships if ship.image == path]
        sample = {
            "image": to_image_tensor(_read_gray(path)),
            "boxes": torch.tensor([ship.box for ship in ships]).reshape(-1, 8),
            "labels": torch.tensor([CLASSES.index(ship.category) for ship in ships], dtype=torch.long),
        }
        return sample if self.transforms is None else self.transforms(sample)

    def plot(self, sample: dict[str, Any]) -> Figure:
        """Plot an image in gray with its boxes.

        Args:
            sample: a sample from `__getitem__`.

        Returns:
            The figure.
        """
        image = sample["image"][0].numpy()
        figure, axes = plt.subplots()
        axes.imshow(image, cmap="gray", vmin=0, vmax=np.percentile(image, 99.8))
        for box, label in zip(sample["boxes"].numpy(), sample["labels"].tolist(), strict=True):
            axes.add_patch(Polygon(box.reshape(4, 2), fill=False, edgecolor="tab:orange"))
            axes.annotate(CLASSES[label], box[:2], color="tab:orange")
        axes.axis("off")
        return figure

    def _by_stem(self, paths: list[Path]) -> dict[str, Path]:
        path_by_stem: dict[str, Path] = {}
        for path in paths:
            if path.stem in path_by_stem:
                self.rejected.append((str(path), 0, f"{path.stem} exists already: {path_by_stem[path.stem]}"))
            else:
                path_by_stem[path.stem] = path
        return path_by_stem

    def _read_ships(self, path: Path, image: Path) -> None:
        try:
            labels = read_label_file(path, _CLASS_LOOKUP)
        except DataError as error:
            self.rejected.append((str(path), 0, error.message))
            return
        self.rejected += labels.rejected
        for row in labels.rows:
            if not _area(row.box) >= _MIN_AREA:  # also true for NaN
                self.rejected.append((str(path), row.line, "the box has no area"))
                continue
            self.ships.append(SRSDDShip(image, path, row.line, row.number, row.category, row.box, row.difficult))


def crop_ship(ship: SRSDDShip) -> Pixels:
    """Crop the square chip around a ship; outside the image, the image is mirrored at its border.

    The last image is cached, so it is decoded once for consecutive ships of one image.

    Args:
        ship: the ship.

    Returns:
        The chip (S, S, 1).

    Raises:
        DataError: the image cannot be read, or the ship is outside it.
    """
    image = _read_gray_cached(ship.image)
    height, width = image.shape[:2]
    left, top, side = ship.window
    corners = np.reshape(ship.box, (4, 2))
    if (corners.max(axis=0) < 0).any() or (corners.min(axis=0) >= (width, height)).any():
        raise DataError("the box lies outside the image")  # the caller adds the row
    rows, columns = _mirror(np.arange(top, top + side), height), _mirror(np.arange(left, left + side), width)
    return np.ascontiguousarray(image[np.ix_(rows, columns)])


def _mirror(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Reflect indices into [0, length) without repeating the border pixels."""
    period = max(1, 2 * (length - 1))
    folded = np.abs(index) % period
    return np.asarray(np.minimum(folded, period - folded))


def _read_gray(path: Path) -> Pixels:
    """Read an image as a single band (H, W, 1); some copies repeat the band as R, G and B.

    Raises:
        DataError: the bands differ.
    """
    pixels = read_chip(path)
    if (pixels != pixels[:, :, :1]).any():
        raise DataError(f"the {pixels.shape[2]} bands differ, but a single band is expected", path)
    return pixels[:, :, :1]


_read_gray_cached = LastImageCache(_read_gray)


def _area(box: tuple[float, ...]) -> float:
    """Return the area of the polygon x1 y1 ... x4 y4 in square pixels."""
    x, y = np.reshape(box, (4, 2)).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _natural_sort_key(stem: str) -> tuple[int, str]:
    return (int(stem), "") if stem.isdecimal() else (2**31, stem)
