"""The ships in the label files of SRSDD, with the images of these files."""

import filecmp
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.data.datasets.formats.box_labels import (
    Corners,
    LabelRow,
    build_class_lookup,
    has_box,
    read_label_file,
)
from rsft.data.datasets.formats.gray_images import (
    UNREADABLE,
    have_same_pixels,
    read_mode_and_size,
)
from rsft.data.datasets.formats.text_files import (
    PathOrText,
    SourceReport,
    find_split,
    iterate_files,
    read_text_lines,
)

_Paths = list[Path]

SRSDD_SPACING_M = 1.0
"""Pixel spacing in meters."""

CHIP_SIZE_STEP = 64
"""The size of a chip is a multiple of this number of pixels."""

MAX_CHIP_SIZE = 4096
"""Largest size of a chip in pixels, four times that of an image of SRSDD."""

SRSDD_CATEGORIES = (
    "Cell-Container",
    "Container",
    "Fishing",
    "LawEnforce",
    "Dredger",
    "ore-oil",
    "bulk-cargo",
)
"""Class names in the order of the labels."""

_CLASS_LOOKUP = build_class_lookup(SRSDD_CATEGORIES) | {
    "lawenforcement": "LawEnforce",
    "bulkcargoship": "bulk-cargo",
}
_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
_IMAGE_FOLDERS = ("images", "jpegimages")
_LABEL_FOLDERS = ("labels", "labeltxt")  # preferred among equal copies

_MAX_COORDINATE = 10**6  # pixels
_MIN_AREA = 1.0  # square pixels


def is_srsdd_label_file(path: Path) -> bool:
    """Return whether a file is a label file of SRSDD, by its first rows."""
    return path.suffix.lower() == ".txt" and has_box(path, _CLASS_LOOKUP)


@dataclass(frozen=True)
class SRSDDShip(LabelRow):
    """A ship in an image."""

    image: Path
    label_file: Path

    @property
    def name(self) -> str:
        """Name in the FUSRS lists: L<image>_<number>."""
        stem = self.image.stem
        return f"L{int(stem) if stem.isdecimal() else stem}_{self.number}"

    @property
    def window(self) -> tuple[int, int, int]:
        """Left, top and size of the square chip in pixels; it may leave the image."""
        corners = np.reshape(self.box, (4, 2))
        low = corners.min(axis=0)
        high = corners.max(axis=0)
        steps = np.ceil(max(1.0, (high - low).max()) / CHIP_SIZE_STEP)
        side = CHIP_SIZE_STEP * int(steps)
        left, top = np.rint((low + high) / 2 - side / 2).astype(int).tolist()
        return left, top, side

    @property
    def box_in_chip(self) -> list[float]:
        """Corners x1 y1 ... x4 y4 of the box in pixels of the chip."""
        left, top, _ = self.window
        return list((np.array(self.box) - np.tile((left, top), 4)).tolist())

    def crop(self, image: NDArray[Any]) -> NDArray[Any]:
        """Crop the chip from its image (H, W, ...), which is mirrored at its border.

        Returns:
            The chip (S, S, ...), where S is the size of `window`.

        Raises:
            ValueError: the box lies outside the image, or is larger than MAX_CHIP_SIZE.
        """
        height, width = image.shape[:2]
        left, top, side = self.window
        if side > MAX_CHIP_SIZE:
            raise ValueError(
                f"the box needs a chip of {side:,} pixels a side; the limit is"
                f" {MAX_CHIP_SIZE:,}"
            )
        x, y = np.reshape(self.box, (4, 2)).T
        if x.max() < 0 or y.max() < 0 or x.min() >= width or y.min() >= height:
            raise ValueError("the box lies outside the image")
        rows = _mirror(np.arange(top, top + side), height)
        columns = _mirror(np.arange(left, left + side), width)
        return np.ascontiguousarray(image[np.ix_(rows, columns)])


def _mirror(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Reflect indices into [0, length) without repeating the border pixels."""
    period = max(1, 2 * (length - 1))
    folded = np.abs(index) % period
    return np.asarray(np.minimum(folded, period - folded))


class SRSDDShips(SourceReport):
    """The ships in the label files of SRSDD at any depth below a folder.

    A label file belongs to the image of its stem in the nearest folder, i.e. the
    deepest one that contains both, but not to one of another split.

    Args:
        root: the folder.
        split: "train" or "test" for the images below a folder of that name, "all" for
            all images.

    Attributes:
        images: the images with labels, sorted by number; none if the folder does not
            contain the data set.
        ships: by image, then in the order of the label file.

    Raises:
        ValueError: several images of a label file, or label files of an image, are
            equally near and differ.
    """

    def __init__(self, root: PathOrText, split: str = "all") -> None:
        super().__init__()
        self.root = Path(root)
        images, labels = self._find_files(split)
        label_of = self._choose_labels(self._choose_images(images, labels))
        self.images = sorted(label_of, key=_image_order)
        self.ships = list[SRSDDShip]()
        for image in self.images:
            self.ships += self._read_ships(label_of[image], image)
        # a copy of an image is met by each of its label files
        self.rejected = list(dict.fromkeys(self.rejected))
        used = {*map(str, label_of), *(path for path, _, _ in self.rejected)}
        self.skipped["image without a label file"] = len({*map(str, images)} - used)
        self._count_opacity_bands()
        self.skipped = +self.skipped

    def _find_files(self, split: str) -> tuple[_Paths, _Paths]:
        """Return the images and the label files."""
        images = []
        labels = []
        for parts in iterate_files(self.root):
            if split != "all" and split not in map(str.lower, parts[:-1]):
                continue
            path = self.root.joinpath(*parts)
            if path.suffix.lower() in _IMAGE_SUFFIXES:
                images.append(path)
            elif path.suffix.lower() == ".txt":
                if _is_other_format(path):
                    self.skipped["label file in another format"] += 1
                else:
                    labels.append(path)
        return images, labels

    def _choose_images(self, images: _Paths, labels: _Paths) -> dict[Path, _Paths]:
        """Return the label files of each image."""
        images_of = defaultdict(list)
        for path in images:
            images_of[path.stem].append(path)
        nearest = {x: self._find_nearest(x, images_of[x.stem]) for x in labels}
        depths: Counter[Path] = Counter()
        for label, (depth, _) in nearest.items():
            depths[label.parent] = max(depth, depths[label.parent])
        labels_of = defaultdict(list)
        for label, (depth, candidates) in nearest.items():
            # an image farther away than those of the folder is that of other labels
            if not candidates or depth < depths[label.parent]:
                self.reject(label, f"image {label.stem} is missing")
                continue
            image = _choose_copy(label, candidates, _IMAGE_FOLDERS, have_same_pixels)
            self._reject_copies(image, candidates)
            labels_of[image].append(label)
        return labels_of

    def _choose_labels(self, labels_of: Mapping[Path, _Paths]) -> dict[Path, Path]:
        """Return one label file of each image."""
        are_equal = partial(filecmp.cmp, shallow=False)
        label_of = {}
        for image, labels in labels_of.items():
            _, candidates = self._find_nearest(image, labels)
            label = _choose_copy(image, candidates, _LABEL_FOLDERS, are_equal)
            self._reject_copies(label, labels)
            label_of[image] = label
        return label_of

    def _reject_copies(self, original: Path, copies: _Paths) -> None:
        for copy in sorted(copies):
            if copy != original:
                self.reject(copy, f"{original.stem} exists already: {original}")

    def _find_nearest(self, path: Path, others: _Paths) -> tuple[int, _Paths]:
        """Return the files in the deepest folder that contains `path` too.

        Files of another split than `path` are left out.

        Returns:
            The length of the name of this folder, and the files.
        """
        split = find_split(path, self.root)
        nearest = defaultdict(list)
        for other in others:
            if not split or find_split(other, self.root) in (split, ""):
                common = os.path.commonpath((path.parent, other.parent))
                nearest[len(common)].append(other)
        return max(nearest.items(), default=(0, []))

    def _read_ships(self, path: Path, image: Path) -> Iterator[SRSDDShip]:
        _, rows, rejected = read_label_file(path, _CLASS_LOOKUP)
        for row in rows:
            fault = _describe_box_fault(row.box)
            if fault:
                rejected.append((str(path), row.line, fault))
            else:
                yield SRSDDShip(**vars(row), image=image, label_file=path)
        self.rejected += sorted(rejected)

    def _count_opacity_bands(self) -> None:
        for image in self.images:
            with suppress(*UNREADABLE):  # reported when the pixels are read
                mode, _ = read_mode_and_size(image)
                self.skipped["opacity band of an image"] += mode in ("LA", "RGBA")


def _image_order(path: Path) -> tuple[int, Path]:
    return int(path.stem) if path.stem.isdecimal() else 2**31, path


def _is_other_format(path: Path) -> bool:
    """Return whether the first row has only numbers, as in labels of YOLO."""
    try:
        lines = read_text_lines(path)
    except (OSError, ValueError):
        return False  # rejected when it is read
    fields = lines[0][1].split() if lines else []
    is_number = [re.fullmatch(r"[-+.\de]+", field) for field in fields]
    return len(fields) >= 4 and all(is_number)


def _choose_copy(
    path: Path,
    copies: _Paths,
    preferred: Sequence[str],
    are_equal: Callable[[Path, Path], bool],
) -> Path:
    """Return the file that belongs to `path`, first one in a preferred folder.

    Raises:
        ValueError: the files are not equal.
    """
    first, *others = sorted(
        copies, key=lambda copy: (copy.parent.name.lower() not in preferred, copy)
    )
    for other in others:
        if not are_equal(first, other):
            raise ValueError(
                f"{first} and {other} differ, and {path} may belong to either: move one"
                " out of the folder"
            )
    return first


def _describe_box_fault(box: Corners) -> str:
    if not np.abs(box).max() < _MAX_COORDINATE:  # also true for NaN
        return f"a corner is not within {_MAX_COORDINATE:,} pixels"
    x, y = np.reshape(box, (4, 2)).T
    area = abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
    if area < _MIN_AREA:
        return "the box has no area"
    return ""
