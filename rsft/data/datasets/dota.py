"""The objects of DOTA: one sample per object."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torchgeo.datasets import DOTA, DatasetNotFoundError
from torchgeo.datasets.utils import Path as PathOrText

from rsft.data.chips.record import describe_rejections
from rsft.data.datasets.dota_files import (
    DOTASplit,
    DOTATree,
    DOTAVersion,
    find_torchgeo_pairs,
)
from rsft.data.datasets.formats.box_labels import (
    LabelRow,
    build_class_lookup,
    read_label_file,
)
from rsft.data.datasets.formats.text_files import parse_finite
from rsft.data.datasets.images import (
    LabeledImages,
    Sample,
    Transforms,
    plot_sample,
    to_image_tensor,
)
from rsft.data.imagery.reader import open_image, read_chip
from rsft.errors import DataError
from rsft.types import Pixels, Rejection

Window = tuple[int, int, int, int]
"""x1 y1 x2 y2 in pixels; column x2 and row y2 are outside the window."""


def crop_window(
    box: tuple[float, ...], width: int, height: int, margin: int = 0, min_size: int = 1
) -> Window:
    """Return the bounding box of a rotated box in pixels, clipped to the image.

    Args:
        box: corners x1 y1 ... x4 y4 in pixels; fractions are rounded outwards.
        width: image width in pixels.
        height: image height in pixels.
        margin: pixels added on each side.
        min_size: minimum side in pixels of the clipped box without its margin.

    Returns:
        The window; it is not empty.

    Raises:
        DataError: a corner is NaN or infinite, or the box is outside the image or too
            small.
    """
    left, top, right, bottom = unclipped_window(box)
    x1, y1, x2, y2 = _clip((left, top, right, bottom), width, height)
    side = min(x2 - x1, y2 - y1)
    if side <= 0 < min(right - left, bottom - top):
        raise DataError(f"the box lies outside the image of {width} x {height} pixels")
    if side < max(1, min_size):
        raise DataError(
            f"the box has {x2 - x1} x {y2 - y1} pixels; the minimum side is {min_size}"
        )
    return _clip(unclipped_window(box, margin), width, height)


def unclipped_window(box: tuple[float, ...], margin: int = 0) -> Window:
    """Return the window of `crop_window` before clipping.

    It may extend beyond the image.

    Raises:
        DataError: a corner is NaN or infinite.
    """
    corners = np.reshape(box, (4, 2))
    if not np.isfinite(corners).all():
        raise DataError("a corner is NaN or infinite")
    x1, y1 = (np.floor(corners.min(axis=0)).astype(int) - margin).tolist()
    x2, y2 = (np.ceil(corners.max(axis=0)).astype(int) + margin).tolist()
    return x1, y1, x2, y2


def _clip(window: Window, width: int, height: int) -> Window:
    """Intersect a window with the image; a side of the result may be negative."""
    x1, y1, x2, y2 = window
    return max(0, x1), max(0, y1), min(width, x2), min(height, y2)


CLASSES: tuple[str, ...] = DOTA.classes
"""Class names: the first 15 are in v1.0; v1.5 added container-crane, v2.0 added airport
and helipad."""

_CLASS_LOOKUP = build_class_lookup(CLASSES)
_MODE_FLAGS = {"L": "gray-repeated", "RGB": "", "RGBA": "alpha-dropped"}


@dataclass(frozen=True)
class DOTAImage:
    """An image with its label file.

    Attributes:
        sensor: sensor in the header of the label file.
        spacing_m: pixel spacing in the header, in meters.
        split: train, val or test, by the nearest parent folder of that name; "" if no
            parent has such a name.
        flag: "gray-repeated" or "alpha-dropped" if the image is not RGB, else "".
    """

    path: Path
    label_file: Path
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
class DOTAObject(LabelRow):
    """An object and its crop window, which may be clipped to its image."""

    image: DOTAImage
    window: Window
    clipped: bool

    @property
    def name(self) -> str:
        """Name of the crop: <image>_<x1>_<y1>_<x2>_<y2>."""
        return "_".join([self.image.stem, *map(str, self.window)])

    @property
    def box_in_crop(self) -> list[float]:
        """Corners x1 y1 ... x4 y4 of the box in pixels of the crop."""
        return list(np.subtract(self.box, self.window[:2] * 4).tolist())


class DOTAObjects(LabeledImages):
    """DOTA objects dataset.

    `DOTA <https://captain-whu.github.io/DOTA>`__ is a dataset for object detection in
    aerial images. A sample is the crop of one object along the horizontal bounding box
    of its rotated box, for classification.

    Dataset features:

    * about 188,000 objects in v1.0, 403,000 in v1.5 and 1,793,000 in v2.0
    * RGB crops of very different sizes; gray images are repeated in three bands
    * 15 classes in v1.0, 16 in v1.5, 18 in v2.0; most objects are ships and vehicles

    Dataset format:

    * images and label files as :class:`torchgeo.datasets.DOTA` downloads and extracts
      them, which then names the files
    * or a plain folder tree: the published archives after extraction, or images/ beside
      labelTxt/. The split of an image is the nearest parent folder called train, val or
      test.

    TorchGeo's DOTA returns whole images, and neither difficulty, sensor nor line of an
    object. The label files are therefore read here; boxes and labels are the same.

    If you use this dataset in your research, please cite the following papers:

    * https://arxiv.org/abs/1711.10398
    * https://arxiv.org/abs/2102.12219

    Attributes:
        classes: class names in the order of the labels.
        images: sorted by split and path; images without an object are included.
        objects: by image, then in file order.
        skipped: number of objects of other classes, images without labels and skipped
            files, by reason.
        rejected: file, line (0 for the whole file) and reason of rows and files that
            cannot be used.
    """

    splits: ClassVar[tuple[DOTASplit, ...]] = get_args(DOTASplit)
    versions: ClassVar[tuple[DOTAVersion, ...]] = get_args(DOTAVersion)

    def __init__(
        self,
        root: PathOrText = "data",
        split: DOTASplit = "train",
        version: DOTAVersion = "1.0",
        transforms: Transforms | None = None,
        download: bool = False,
        checksum: bool = False,
        *,
        num_classes: int = 15,
        margin: int = 0,
        min_size: int = 4,
    ) -> None:
        """Initialize a new DOTAObjects dataset instance.

        Args:
            root: root directory where dataset can be found
            split: one of "train", "val" or "test"; "all" takes all images, also those
                that no folder assigns to a split
            version: version of the label files, one of "1.0", "1.5" or "2.0"
            transforms: a function/transform that takes input sample and its target as
                entry and returns a transformed version
            download: if True, let TorchGeo download and extract the training and
                validation images to *root*. If False, nothing is written to *root*.
            checksum: if True, check the downloaded files (may be slow)
            num_classes: 15, as in v1.0, or 18
            margin: pixels added to the crop on each side
            min_size: minimum side of an object's horizontal bounding box in pixels;
                smaller objects are rejected

        Raises:
            AssertionError: if *split* or *version* is invalid
            DatasetNotFoundError: if no image has a label file, and *download* is False
            DataError: if none of the images can be used
        """
        assert split in self.splits, f"split must be one of {self.splits}"
        assert version in self.versions, f"version must be one of {self.versions}"
        self.root = root
        self.split = split
        self.version = version
        self.transforms = transforms
        self.download = download
        self.checksum = checksum
        self.classes = CLASSES[:num_classes]
        self._crop_options = {"margin": margin, "min_size": min_size}
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        pairs = dict(
            find_torchgeo_pairs(Path(root), split, version, download, checksum)
        )
        if not pairs:
            tree = DOTATree(Path(root), split, version)
            pairs = tree.pairs
            self.skipped = tree.skipped
            self.rejected = tree.rejected
        self.images: list[DOTAImage] = []
        self.objects: list[DOTAObject] = []
        for (image_split, _), (image, label_file) in pairs.items():
            self._read_image(image, label_file, image_split)
        if self.images:
            return
        if pairs:
            raise DataError(
                "no image can be used", root, describe_rejections(self.rejected)
            )
        error = DatasetNotFoundError(self)
        for reason, count in self.skipped.items():
            error.add_note(f"found: {count} x {reason}")
        raise error

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.objects)

    def load_sample(self, index: int) -> Sample:
        """Return the crop of an object.

        Returns:
            image: (3, h, w) in 0-255; label; bbox: corners (8,) in pixels of the crop.
        """
        item = self.objects[index]
        return {
            "image": to_image_tensor(crop_object(item, read_rgb(item.image.path))),
            "label": torch.tensor(self.classes.index(item.category)),
            "bbox": torch.tensor(item.box_in_crop),
        }

    def plot(
        self, sample: Sample, show_titles: bool = True, suptitle: str | None = None
    ) -> Figure:
        """Plot a crop with its rotated box."""
        figure = plot_sample(sample, self.classes, show_titles, suptitle)
        corners = sample["bbox"].numpy().reshape(4, 2)
        figure.axes[0].add_patch(Polygon(corners, fill=False, edgecolor="tab:orange"))
        return figure

    def _read_image(self, path: Path, label_file: Path, split: str) -> None:
        """Add an image and its objects."""
        header, rows, rejected = read_label_file(label_file, _CLASS_LOOKUP)
        self.rejected += rejected
        if any(line == 0 for _, line, _ in rejected):  # the whole file
            return
        try:
            with open_image(path) as opened:
                mode = opened.mode
                width, height = opened.size
        except DataError as error:
            self.rejected.append((error.location, 0, error.message))
            return
        if mode not in _MODE_FLAGS:
            self.rejected.append(
                (
                    str(path),
                    0,
                    f"the image has mode {mode}, but 8-bit gray or RGB is expected",
                )
            )
            return
        spacing = parse_finite(header.get("gsd"))
        image = DOTAImage(
            path,
            label_file,
            split,
            width,
            height,
            header.get("imagesource"),
            spacing if spacing and spacing > 0 else None,
            _MODE_FLAGS[mode],
        )
        self.images.append(image)
        self._add_objects(image, rows)

    def _add_objects(self, image: DOTAImage, rows: list[LabelRow]) -> None:
        seen: dict[tuple[str, Window], int] = {}
        classes = f"not among the {len(self.classes)} classes"
        for row in rows:
            if row.category not in self.classes:
                self.skipped[f"{row.category}: {classes}"] += 1
                continue
            margin = self._crop_options["margin"]
            try:
                window = crop_window(
                    row.box, image.width, image.height, **self._crop_options
                )
                first = seen.setdefault((row.category, window), row.line)
                if first != row.line:
                    raise DataError(f"same class and window as line {first}")
            except DataError as error:
                file = str(image.label_file)
                self.rejected.append((file, row.line, error.message))
                continue
            clipped = window != unclipped_window(row.box, margin)
            self.objects.append(
                DOTAObject(**vars(row), image=image, window=window, clipped=clipped)
            )


def read_rgb(path: Path) -> Pixels:
    """Read an image as RGB (H, W, 3).

    A gray band is repeated, a fourth band is dropped.
    """
    pixels = read_chip(path)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels[:, :, :3]


def crop_object(item: DOTAObject, pixels: Pixels) -> Pixels:
    """Return the window (h, w, 3) of an object, a view of its image (H, W, 3)."""
    x1, y1, x2, y2 = item.window
    return pixels[y1:y2, x1:x2]
