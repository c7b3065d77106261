"""The objects of DOTA: one crop per object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torchgeo.datasets import DOTA

from rsft.data.chips.record import describe_rejections
from rsft.data.datasets.dota_files import DOTATree, DOTAVersion
from rsft.data.datasets.formats.box_labels import (
    Corners,
    LabelRow,
    build_class_lookup,
    read_label_file,
)
from rsft.data.datasets.formats.text_files import SourceReport, parse_finite
from rsft.data.datasets.published_archives import DOTA_ARCHIVE
from rsft.data.imagery.reader import read_chip, read_image_header
from rsft.errors import DataError, RequestError
from rsft.types import Names, Pixels

Window = tuple[int, int, int, int]
"""x1 y1 x2 y2 in pixels; column x2 and row y2 are outside the window."""


def crop_window(box: Corners, width: int, height: int, min_size: int = 1) -> Window:
    """Return the bounding box of a rotated box in pixels, clipped to the image.

    Args:
        box: corners x1 y1 ... x4 y4 in pixels; fractions are rounded outwards.
        width: image width in pixels.
        height: image height in pixels.
        min_size: minimum side in pixels of the clipped box.

    Returns:
        The window; it is not empty.

    Raises:
        DataError: a corner is NaN or infinite, or the box is outside the image or too
            small.
    """
    left, top, right, bottom = unclipped_window(box)
    x1 = max(0, left)
    y1 = max(0, top)
    x2 = min(width, right)
    y2 = min(height, bottom)
    if min(x2 - x1, y2 - y1) < max(1, min_size):
        raise DataError(
            f"a side of the box has less than {max(1, min_size)} pixels in the image"
        )
    return x1, y1, x2, y2


def unclipped_window(box: Corners) -> Window:
    """Return the window of `crop_window` before clipping.

    It may extend beyond the image.

    Raises:
        DataError: a corner is NaN or infinite.
    """
    corners = np.reshape(box, (4, 2))
    if not np.isfinite(corners).all():
        raise DataError("a corner is NaN or infinite")
    x1, y1 = np.floor(corners.min(axis=0)).astype(int).tolist()
    x2, y2 = np.ceil(corners.max(axis=0)).astype(int).tolist()
    return x1, y1, x2, y2


CLASSES: Names = DOTA.classes
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


class DOTAObjects(SourceReport):
    """The objects of DOTA below a folder, each with its crop window.

    `DOTA <https://captain-whu.github.io/DOTA>`__ is a data set for object detection in
    aerial images. A crop is the image of one object along the horizontal bounding box
    of its rotated box, for classification.

    * about 188,000 objects in v1.0, 403,000 in v1.5 and 1,793,000 in v2.0
    * RGB crops of very different sizes; gray images are repeated in three bands
    * 15 classes in v1.0, 16 in v1.5, 18 in v2.0; most objects are ships and vehicles

    The folder contains the published archives after extraction, what
    `torchgeo.datasets.DOTA` extracts, or images/ beside labelTxt/. The split of an
    image is the nearest parent folder called train, val or test.

    Args:
        root: the folder.
        version: version of the label files.
        num_classes: 15, as in v1.0, or 18.
        min_size: minimum side of an object's horizontal bounding box in pixels; smaller
            objects are rejected.

    Attributes:
        classes: class names in the order of the labels.
        images: sorted by split and path; images without an object are included.
        objects: by image, then in file order.
        skipped: number of objects of other classes, images without labels and skipped
            files, by reason.
        rejected: file, line (0 for the whole file) and reason of rows and files that
            cannot be used.

    Raises:
        RequestError: no image has a label file.
        DataError: none of the images can be used.
    """

    def __init__(
        self,
        root: Path,
        version: DOTAVersion = "1.0",
        *,
        num_classes: int = 15,
        min_size: int = 4,
    ) -> None:
        tree = DOTATree(root, version)
        self.classes = CLASSES[:num_classes]
        self.min_size = min_size
        self.skipped = tree.skipped
        self.rejected = tree.rejected
        self.images: list[DOTAImage] = []
        self.objects: list[DOTAObject] = []
        for (split, _), (image, label_file) in tree.pairs.items():
            self._read_image(image, label_file, split)
        if tree.pairs and not self.images:
            reasons = describe_rejections(self.rejected)
            raise DataError("no image can be used", root, reasons)
        if not self.images:
            raise RequestError(
                f"the folder does not contain an image with labels of DOTA v{version}",
                root,
                describe_rejections(
                    self.rejected,
                    self.skipped,
                    f"give the folder that contains {DOTA_ARCHIVE.content}",
                ),
            )

    def _read_image(self, path: Path, label_file: Path, split: str) -> None:
        """Add an image and its objects."""
        header, rows, rejected = read_label_file(label_file, _CLASS_LOOKUP)
        self.rejected += rejected
        if any(line == 0 for _, line, _ in rejected):  # the whole file
            return
        try:
            header_of_image = read_image_header(path)
        except DataError as error:
            self.rejected.append((error.location, 0, error.message))
            return
        mode = header_of_image.mode
        height, width = header_of_image.size
        if mode not in _MODE_FLAGS:
            reason = f"the image has mode {mode}, but 8-bit gray or RGB is expected"
            self.reject(path, reason)
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
        for row in rows:
            if row.category not in self.classes:
                reason = f"{row.category}: not among the {len(self.classes)} classes"
                self.skipped[reason] += 1
                continue
            try:
                window = crop_window(row.box, image.width, image.height, self.min_size)
                first = seen.setdefault((row.category, window), row.line)
                if first != row.line:
                    raise DataError(f"same class and window as line {first}")
            except DataError as error:
                self.reject(image.label_file, error.message, row.line)
                continue
            clipped = window != unclipped_window(row.box)
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
