"""The objects of DOTA, one sample per object, read through TorchGeo's DOTA or from a plain folder tree."""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, get_args

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torchgeo.datasets import DOTA, DatasetNotFoundError, NonGeoDataset
from torchgeo.datasets.utils import Path

from rsft.data.datasets._dota.crop import Window, crop_window, unclipped_window
from rsft.data.datasets._dota.labels import LabelRow, build_class_lookup, read_label_file
from rsft.data.datasets._dota.layout import (
    DOTAPairs,
    DOTASplit,
    DOTAVersion,
    find_torchgeo_pairs,
    find_tree_pairs,
)
from rsft.data.datasets._plotting import make_title, to_image_tensor
from rsft.data.imagery.reader import open_image, read_chip
from rsft.errors import DataError
from rsft.types import Pixels, Rejection

__all__ = ["CLASSES", "DOTAImage", "DOTAObject", "DOTAObjects", "DOTASplit", "DOTAVersion", "crop_object", "read_rgb"]

CLASSES: tuple[str, ...] = DOTA.classes
"""Class names: the first 15 are in v1.0; v1.5 added container-crane, v2.0 added airport and helipad."""

_CLASS_LOOKUP = build_class_lookup(CLASSES)
_MODE_FLAGS = {"L": "gray-repeated", "RGB": "", "RGBA": "alpha-dropped"}


@dataclass(frozen=True)
class DOTAImage:
    """An image with its label file.

    Attributes:
        path: the image.
        label_file: the label file.
        split: train, val or test, by the nearest parent folder of that name; "" if no parent has such a name.
        width: width in pixels.
        height: height in pixels.
        sensor: sensor in the header of the label file.
        spacing_m: pixel spacing in the header of the label file, in meters.
        flag: "gray-repeated" or "alpha-dropped" if the image is not RGB, else "".
    """

    path: pathlib.Path
    label_file: pathlib.Path
    split: str
    width: int
    height: int
    sensor: str | None
    spacing_m: float | None
    flag: str

    @cached_property
    def stem(self) -> str:
        """File name without suffix; cached, because each object needs it twice."""
        return self.path.stem


@dataclass(frozen=True)
class DOTAObject:
    """An object and its crop window.

    Attributes:
        image: the image that contains it.
        line: line number in the label file, from 1.
        category: class name.
        box: annotated corners x1 y1 ... x4 y4 in pixels of the image.
        difficult: difficulty in the label file: 0, 1 or 2.
        window: the crop window.
        clipped: whether the window was clipped to the image.
    """

    image: DOTAImage
    line: int
    category: str
    box: tuple[float, ...]
    difficult: int
    window: Window
    clipped: bool

    @property
    def name(self) -> str:
        """Name of the crop: <image>_<x1>_<y1>_<x2>_<y2>."""
        return "_".join([self.image.stem, *map(str, self.window)])

    @property
    def box_in_crop(self) -> list[float]:
        """Corners x1 y1 ... x4 y4 of the box in pixels of the crop."""
        return [value - origin for value, origin in zip(self.box, self.window[:2] * 4, strict=True)]


class DOTAObjects(NonGeoDataset):
    """DOTA objects dataset.

    `DOTA <https://captain-whu.github.io/DOTA>`__ is a dataset for object detection in aerial images. A sample is the
    crop of one object along the horizontal bounding box of its rotated box, for classification.

    Dataset features:

    * about 188,000 objects in v1.0, 403,000 in v1.5 and 1,793,000 in v2.0
    * RGB crops of very different sizes; gray images are repeated in three bands
    * 15 classes in v1.0, 16 in v1.5, 18 in v2.0; most objects are ships and vehicles

    Dataset format:

    * images and label files as :class:`torchgeo.datasets.DOTA` downloads and extracts them, which then names the files
    * or a plain folder tree: the published archives after extraction, or images/ beside labelTxt/. The split of an
      image is the nearest parent folder called train, val or test.

    TorchGeo's DOTA returns whole images, and neither difficulty, sensor nor line of an object. The label files are
    therefore read here; boxes and labels are the same.

    If you use this dataset in your research, please cite the following papers:

    * https://arxiv.org/abs/1711.10398
    * https://arxiv.org/abs/2102.12219

    Attributes:
        classes: class names in the order of the labels.
        images: sorted by split and path; images without an object are included.
        objects: by image, then in file order.
        skipped: number of objects of other classes, images without labels and skipped files, by reason.
        rejected: file, line (0 for the whole file) and reason of rows and files that cannot be used.
    """

    splits: ClassVar[tuple[DOTASplit, ...]] = get_args(DOTASplit)
    versions: ClassVar[tuple[DOTAVersion, ...]] = get_args(DOTAVersion)

    def __init__(
        self,
        root: Path = "data",
        split: DOTASplit = "train",
        version: DOTAVersion = "1.0",
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        download: bool = False,
        checksum: bool = False,
        *,
        num_classes: int = 15,
        margin: int = 0,
        min_side: int = 4,
    ) -> None:
        """Initialize a new DOTAObjects dataset instance.

        Args:
            root: root directory where dataset can be found
            split: one of "train", "val" or "test"; "all" takes all images, also those that no folder assigns to a split
            version: version of the label files, one of "1.0", "1.5" or "2.0"
            transforms: a function/transform that takes input sample and its target as
                entry and returns a transformed version
            download: if True, let TorchGeo download and extract the training and validation images to *root*. If
                False, nothing is written to *root*.
            checksum: if True, check the downloaded files (may be slow)
            num_classes: 15, as in v1.0, or 18
            margin: pixels added to the crop on each side
            min_side: minimum side of an object's horizontal bounding box in pixels; smaller objects are rejected

        Raises:
            AssertionError: if *split* or *version* is invalid
            DatasetNotFoundError: if no image has a label file, and *download* is False
            DataError: if none of the images can be used
        """
        assert split in self.splits, f"split must be one of {self.splits}"
        assert version in self.versions, f"version must be one of {self.versions}"
        self.root, self.split, self.version, self.transforms = root, split, version, transforms
        self.download, self.checksum = download, checksum
        self.classes = CLASSES[:num_classes]
        self.margin, self.min_side = margin, min_side
        files = self._find_files()
        self.skipped: Counter[str] = files.skipped
        self.rejected: list[Rejection] = files.rejected
        self.images: list[DOTAImage] = []
        self.objects: list[DOTAObject] = []
        for (image_split, _), (image, label_file) in files.pairs.items():
            self._read_image(image, label_file, image_split)
        if files.pairs and not self.images:
            raise DataError("no image can be used", root, f"the last reason: {self.rejected[-1][2]}")
        if not self.images:
            error = DatasetNotFoundError(self)
            for reason, count in self.skipped.items():
                error.add_note(f"found: {count} x {reason}")
            raise error

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.objects)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample.

        Args:
            index: position of the sample.

        Returns:
            image: (3, h, w) float32, the crop in 0-255; label: index into `classes`; bbox: corners (8,) in pixels of
            the crop.
        """
        item = self.objects[index]
        sample = {
            "image": to_image_tensor(crop_object(item, read_rgb(item.image.path))),
            "label": torch.tensor(self.classes.index(item.category)),
            "bbox": torch.tensor(item.box_in_crop),
        }
        return sample if self.transforms is None else self.transforms(sample)

    def plot(self, sample: dict[str, Any], show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Plot a crop with its rotated box.

        Args:
            sample: a sample from `__getitem__`; it may have a prediction.
            show_titles: whether to show the class, and the predicted class.
            suptitle: title of the figure.

        Returns:
            The figure.
        """
        figure, axes = plt.subplots()
        axes.imshow(sample["image"].numpy().transpose(1, 2, 0).astype(np.uint8))
        axes.add_patch(Polygon(sample["bbox"].numpy().reshape(4, 2), fill=False, edgecolor="tab:orange"))
        axes.axis("off")
        if show_titles:
            axes.set_title(make_title(sample, self.classes))
        if suptitle is not None:
            figure.suptitle(suptitle)
        return figure

    def _find_files(self) -> DOTAPairs:
        """Return the files that TorchGeo's DOTA names, or else those of a plain tree."""
        root = pathlib.Path(self.root)
        files = find_torchgeo_pairs(root, self.split, self.version, self.download, self.checksum)
        return files if files.pairs else find_tree_pairs(root, self.split, self.version)

    def _read_image(self, path: pathlib.Path, label_file: pathlib.Path, split: str) -> None:
        try:
            labels = read_label_file(label_file, _CLASS_LOOKUP)
            width, height, flag = _read_header(path)
        except DataError as error:
            self.rejected.append((error.location, 0, error.message))
            return
        self.rejected += labels.rejected
        sensor, spacing = labels.header.get("imagesource"), _spacing(labels.header.get("gsd"))
        image = DOTAImage(path, label_file, split, width, height, sensor, spacing, flag)
        self.images.append(image)
        seen: dict[tuple[str, Window], int] = {}
        for row in labels.rows:
            if row.category not in self.classes:
                self.skipped[f"{row.category}: not among the {len(self.classes)} classes"] += 1
                continue
            try:
                item = self._object(image, row)
            except DataError as error:
                self.rejected.append((str(label_file), row.line, error.message))
                continue
            first = seen.setdefault((item.category, item.window), row.line)
            if first == row.line:
                self.objects.append(item)
            else:
                self.rejected.append((str(label_file), row.line, f"same class and window as line {first}"))

    def _object(self, image: DOTAImage, row: LabelRow) -> DOTAObject:
        window = crop_window(row.box, image.width, image.height, self.margin, self.min_side)
        clipped = window != unclipped_window(row.box, self.margin)
        return DOTAObject(image, row.line, row.category, row.box, row.difficult, window, clipped)


def read_rgb(path: pathlib.Path) -> Pixels:
    """Read an image as RGB.

    Args:
        path: an image with one band (repeated), three bands, or four bands (the last one is dropped).

    Returns:
        Pixels (H, W, 3).

    Raises:
        DataError: the file cannot be read.
    """
    pixels = read_chip(path)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[:, :, :3]


def crop_object(item: DOTAObject, pixels: Pixels) -> Pixels:
    """Crop an object out of its image.

    Args:
        item: the object.
        pixels: its image (H, W, 3).

    Returns:
        Its window (h, w, 3), a view of the image.
    """
    x1, y1, x2, y2 = item.window
    return pixels[y1:y2, x1:x2]


def _read_header(path: pathlib.Path) -> tuple[int, int, str]:
    """Return width, height and flag of an image without decoding it."""
    with open_image(path) as image:
        if image.mode not in _MODE_FLAGS:
            raise DataError(f"the image has mode {image.mode}, but 8-bit gray or RGB is expected", path)
        return *image.size, _MODE_FLAGS[image.mode]


def _spacing(text: str | None) -> float | None:
    """Parse a pixel spacing; return None for a missing or invalid value such as "null"."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if np.isfinite(value) and value > 0 else None
