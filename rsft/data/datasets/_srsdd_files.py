"""Ships in the label files of SRSDD, the text format of these files, which DOTA has too, and the classes of FUSRS.

This module imports no torch.
"""

import filecmp
import os
import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rsft.data.datasets._fusar_files import (
    FUSAR_CATEGORIES,
    iterate_files,
    read_text_lines,
)

Rejected = list[tuple[str, int, str]]
"""File, line (0 for the whole file) and reason."""

_Paths = list[pathlib.Path]

SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Split by folder name."""


def find_split(path: pathlib.Path, root: pathlib.Path) -> str:
    """Return the split of the nearest parent folder below `root` with the name of one; "" if no parent has such a name.

    Example:
        >>> find_split(pathlib.Path("a/train/images/1.png"), pathlib.Path("a"))
        'train'
    """
    names = map(str.lower, path.relative_to(root).parts[-2::-1])
    return next((SPLIT_FOLDERS[name] for name in names if name in SPLIT_FOLDERS), "")


@dataclass(frozen=True)
class LabelRow:
    """One object of a label file.

    Attributes:
        line: line number in the file, from 1.
        number: row number below the header, from 1; unusable rows count too.
        box: corners x1 y1 ... x4 y4 in pixels of the image; they may be NaN, have no
            area or lie outside the image.
        difficult: difficulty of the object: 0, 1, or 2 for an object that was cut when
            a large image was divided.
    """

    line: int
    number: int
    category: str
    box: tuple[float, ...]
    difficult: int


def read_label_file(
    path: pathlib.Path, lookup: Mapping[str, str]
) -> tuple[dict[str, str], list[LabelRow], Rejected]:
    """Read header lines `key:value`, and rows `x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]`.

    Returns:
        Values of the header lines by key, the objects, and the rows that cannot be
        parsed. A file that cannot be read is rejected as a whole.
    """
    header: dict[str, str] = {}
    rows: list[LabelRow] = []
    rejected: Rejected = []
    try:
        lines = read_text_lines(path)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            reason = f"cannot be read: {error.strerror}"
        else:
            reason = "is not UTF-8 text"
        return header, rows, [(str(path), 0, f"the file {reason}")]
    for line, text in lines:
        if not (rows or rejected) and _is_header(text):
            key, _, value = text.partition(":")
            header[key.strip("'\" ").lower()] = value.strip()
            continue
        try:
            rows.append(
                LabelRow(line, len(rows) + len(rejected) + 1, *_parse_row(text, lookup))
            )
        except ValueError as error:
            rejected.append((str(path), line, str(error)))
    return header, rows, rejected


def _is_header(text: str) -> bool:
    """Return whether a line begins with a word and has too few numbers for a box, in whatever order."""
    is_number = [
        re.match(r"[-+.]*\d|[-+]?(nan|inf)\b", word, re.IGNORECASE)
        for word in re.split(r"[\s,;]+", text)
    ]
    return is_number[0] is None and len([*filter(None, is_number)]) < 4


def build_class_lookup(classes: Iterable[str]) -> dict[str, str]:
    """Return class names by normalized name: copies differ in capitals, hyphens and spaces."""
    return {_normalize(name): name for name in classes}


def _normalize(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _parse_row(
    text: str, class_lookup: Mapping[str, str]
) -> tuple[str, tuple[float, ...], int]:
    """Return class, corners and difficulty; raise ValueError with the reason if the row cannot be used."""
    fields = text.split()
    if re.fullmatch(r"\d+", fields[-1]):
        difficult = int(fields.pop())
    else:
        difficult = 0
    name = " ".join(fields[8:])
    if not name:
        raise ValueError(
            f"{len(text.split())} fields; a row has 8 numbers, a class and optionally a"
            " difficulty"
        )
    try:
        box = tuple(float(field) for field in fields[:8])
    except ValueError:
        raise ValueError("a corner is not a number") from None
    category = class_lookup.get(_normalize(name))
    if category is None:
        raise ValueError(f"unknown class {name}")
    if difficult > 2:
        raise ValueError(f"the difficulty is {difficult}; it must be 0, 1 or 2")
    return category, box, difficult


def has_box(path: pathlib.Path, lookup: Mapping[str, str] | None = None) -> bool:
    """Return whether one of the first rows of a text file is a box with a class.

    Args:
        path: the file.
        lookup: class names by normalized name; None for any class.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            rows = file.read(_MAX_FIRST_ROWS).splitlines()[:_FIRST_ROWS]
    except OSError:
        return False
    for text in rows:
        name = " ".join(text.split()[8:9])
        with suppress(ValueError, IndexError):
            _parse_row(text, {_normalize(name): name} if lookup is None else lookup)
            return True
    return False


def parse_finite(text: str | None) -> float | None:
    """Return the number in a text; None for a missing, infinite or invalid one, such as "null"."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    if np.isfinite(value):
        return value
    return None


_FIRST_ROWS = 5
_MAX_FIRST_ROWS = 2**12
"""Rows, and letters of them, that tell the format of a label file."""

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
_MAX_COORDINATE = 10**6  # pixels
_MIN_AREA = 1.0  # square pixels
_LARGEST_SHARE_OUTSIDE = 0.05  # share of the images with a ship whose center is outside
_MIN_OUTSIDE = 3  # such images of one split and size
_MIN_REACH = 2 / 3
_MIN_IMAGES = (
    10  # boxes in so many images end beyond this part of the width and the height
)
_LEAST_PROBABILITY = 1e-6  # that boxes at random end before this part
_IMAGE_FOLDERS = ("images", "jpegimages")
_LABEL_FOLDERS = ("labels", "labeltxt")  # preferred among equal copies


def is_srsdd_label_file(path: pathlib.Path) -> bool:
    """Return whether a file is a label file of SRSDD, by its first rows."""
    return path.suffix.lower() == ".txt" and has_box(path, _CLASS_LOOKUP)


@dataclass(frozen=True)
class SRSDDShip(LabelRow):
    """A ship in an image."""

    image: pathlib.Path
    label_file: pathlib.Path

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
        side = CHIP_SIZE_STEP * int(
            np.ceil(max(1.0, (high - low).max()) / CHIP_SIZE_STEP)
        )
        left, top = np.rint((low + high) / 2 - side / 2).astype(int).tolist()
        return left, top, side

    @property
    def box_in_chip(self) -> list[float]:
        """Corners x1 y1 ... x4 y4 of the box in pixels of the chip."""
        left, top, _ = self.window
        return [float(value) for value in np.array(self.box) - np.tile((left, top), 4)]

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
        corners = np.reshape(self.box, (4, 2))
        if (corners.max(axis=0) < 0).any() or (
            corners.min(axis=0) >= (width, height)
        ).any():
            raise ValueError("the box lies outside the image")
        rows = _mirror(np.arange(top, top + side), height)
        columns = _mirror(np.arange(left, left + side), width)
        return np.ascontiguousarray(image[np.ix_(rows, columns)])


class SRSDDShips:
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
            equally near and differ; or the labels seem to be of images of another size.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "all") -> None:
        self.root = pathlib.Path(root)
        self.split = split
        self.skipped: Counter[str] = Counter()
        self.rejected: Rejected = []
        images, labels = self._find_files()
        label_of = self._pair(images, labels)
        self.images = sorted(
            label_of,
            key=lambda path: (int(path.stem) if path.stem.isdecimal() else 2**31, path),
        )
        self.ships = [
            ship
            for image in self.images
            for ship in self._read_ships(label_of[image], image)
        ]
        self.rejected = list(
            dict.fromkeys(self.rejected)
        )  # a copy of an image is met by each of its label files
        used = {*map(str, label_of), *(path for path, _, _ in self.rejected)}
        self.skipped["image without a label file"] = len({*map(str, images)} - used)
        self._check_images()
        self.skipped = +self.skipped

    def _find_files(self) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
        """Return the images and the label files."""
        files = iterate_files(self.root)
        files = (
            parts
            for parts in files
            if self.split == "all" or self.split in map(str.lower, parts[:-1])
        )
        paths = [self.root.joinpath(*parts) for parts in files]
        labels = [path for path in paths if path.suffix.lower() == ".txt"]
        usable = [path for path in labels if not _is_other_format(path)]
        self.skipped["label file in another format"] = len(labels) - len(usable)
        images = [path for path in paths if path.suffix.lower() in _IMAGE_SUFFIXES]
        return images, usable

    def _pair(
        self, images: list[pathlib.Path], labels: list[pathlib.Path]
    ) -> dict[pathlib.Path, pathlib.Path]:
        """Return the label file of each image that has one."""
        self._check_numbers(images, labels)
        images_of = defaultdict[str, _Paths](list)
        labels_of = defaultdict[pathlib.Path, _Paths](list)
        for image in images:
            images_of[image.stem].append(image)
        nearest = {
            label: self._find_nearest(label, images_of[label.stem]) for label in labels
        }
        depths: Counter[pathlib.Path] = Counter()
        for label, (depth, _) in nearest.items():
            depths[label.parent] = max(depth, depths[label.parent])
        for label, (depth, candidates) in nearest.items():
            if (
                not candidates or depth < depths[label.parent]
            ):  # an image farther away is that of other labels
                self.rejected.append((str(label), 0, f"image {label.stem} is missing"))
                continue
            image, *copies = _sort_copies(
                label, candidates, _IMAGE_FOLDERS, have_same_pixels
            )
            labels_of[image].append(label)
            self.rejected += [
                (str(copy), 0, f"{copy.stem} exists already: {image}")
                for copy in copies
            ]
        label_of: dict[pathlib.Path, pathlib.Path] = {}
        for image, group in labels_of.items():
            _, candidates = self._find_nearest(image, group)
            label_of[image] = first = _sort_copies(
                image, candidates, _LABEL_FOLDERS, partial(filecmp.cmp, shallow=False)
            )[0]
            self.rejected += [
                (str(x), 0, f"{x.stem} exists already: {first}")
                for x in group
                if x != first
            ]
        return label_of

    def _check_numbers(self, images: _Paths, labels: _Paths) -> None:
        """Raise ValueError if images and labels of a split fit together with 1 added to or subtracted from one kind."""
        for split in sorted({find_split(label, self.root) for label in labels}):
            image_numbers = _find_numbers(
                path for path in images if self._may_belong(path, split)
            )
            label_numbers = _find_numbers(
                path for path in labels if find_split(path, self.root) == split
            )
            for step in (-1, 1):
                if label_numbers and image_numbers == {
                    (name, number + step) for name, number in label_numbers
                }:
                    matches = len(image_numbers & label_numbers)
                    raise ValueError(
                        f"{matches:,} label files {f'of {split} ' if split else ''}have"
                        f" the number of an image, and {len(label_numbers):,} of"
                        f" {len(label_numbers):,} with {step:+} added: images and"
                        " labels seem to be counted from different numbers"
                    )

    def _may_belong(self, path: pathlib.Path, split: str) -> bool:
        """Return whether a file is not of another split than `split`; "" is any split."""
        return not split or find_split(path, self.root) in (split, "")

    def _find_nearest(self, path: pathlib.Path, others: _Paths) -> tuple[int, _Paths]:
        """Return the files in the deepest folder that contains `path` too, and the length of the name of this folder.

        Files of another split than `path` are left out: those whose nearest parent
        folder of a split has another name.
        """
        split = find_split(path, self.root)
        lengths = dict[pathlib.Path, int]()
        for other in others:
            if self._may_belong(other, split):
                lengths[other] = len(os.path.commonpath((path.parent, other.parent)))
        length = max(lengths.values(), default=0)
        return length, [other for other in lengths if lengths[other] == length]

    def _check_images(self) -> None:
        """Count bands of opacity; raise ValueError if ships are outside of many images, or in one part of all.

        All images are checked together, and those of one split and size.
        """
        groups = defaultdict[tuple[Any, ...], list[_LabeledImage]](list)
        boxes = {
            image: [ship.box for ship in ships]
            for image, ships in groupby(self.ships, attrgetter("image"))
        }
        for image in boxes:
            with (
                suppress(*UNREADABLE),
                Image.open(image) as file,
            ):  # the fault is reported when the pixels are read
                self.skipped["opacity band of an image"] += file.mode in ("LA", "RGBA")
                labeled = _LabeledImage(
                    image, file.size, np.reshape(boxes[image], (-1, 4, 2)) / file.size
                )
                groups[()].append(labeled)
                groups[find_split(image, self.root), file.size].append(labeled)
        for key, group in groups.items():
            fault = _describe_misfit(group, min_outside=_MIN_OUTSIDE if key else 1)
            if fault:
                raise ValueError(
                    f"{fault}: the labels seem to be of images of another size, or to"
                    " exchange x and y"
                )

    def _read_ships(
        self, path: pathlib.Path, image: pathlib.Path
    ) -> Iterator[SRSDDShip]:
        _, rows, rejected = read_label_file(path, _CLASS_LOOKUP)
        for row in rows:
            x, y = np.reshape(row.box, (4, 2)).T
            if (
                not abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 >= _MIN_AREA
            ):  # also true for NaN
                rejected.append((str(path), row.line, "the box has no area"))
            elif not np.abs(row.box).max() < _MAX_COORDINATE:
                rejected.append(
                    (
                        str(path),
                        row.line,
                        f"a corner is not within {_MAX_COORDINATE:,} pixels",
                    )
                )
            else:
                yield SRSDDShip(**vars(row), image=image, label_file=path)
        self.rejected += sorted(rejected)


def _find_numbers(paths: Iterable[pathlib.Path]) -> set[tuple[str, int]]:
    """Return the numbers at the end of file names, each with the text before it; leave out names without a number."""
    numbers: set[tuple[str, int]] = set()
    for stem in {path.stem for path in paths}:
        text = stem.rstrip("0123456789")
        if text != stem:
            numbers.add((text, int(stem[len(text) :])))
    return numbers


@dataclass(frozen=True)
class _LabeledImage:
    """An image with width and height in pixels, and the corners (N, 4, 2) of its boxes as shares of both."""

    path: pathlib.Path
    size: tuple[int, int]
    corners: NDArray[np.float64]

    def __str__(self) -> str:
        return f"{self.path} ({self.size[0]} x {self.size[1]} pixels)"


def _describe_misfit(images: Sequence[_LabeledImage], min_outside: int) -> str:
    """Return why labels do not fit their images, or ""; `min_outside` images with a box outside are a fault."""
    count = len(images)
    outside = list[_LabeledImage]()
    for image in images:
        centers = image.corners.mean(axis=1)
        if (centers < 0).any() or (centers > 1).any():
            outside.append(image)
    if len(outside) > _LARGEST_SHARE_OUTSIDE * count and len(outside) >= min_outside:
        return (
            f"{len(outside):,} of {count:,} images have a box outside, such as"
            f" {outside[0]}"
        )
    reach = np.max([image.corners.max(axis=(0, 1)) for image in images], axis=0)
    is_short = (
        reach < _MIN_REACH
    )  # of both sides if the image is larger; of the longer one if x and y are exchanged
    is_longer = np.all(
        [np.array(image.size) > min(image.size) for image in images], axis=0
    )
    is_suspect = is_short.all() or (is_short & is_longer).any()
    if (
        is_suspect
        and count >= _MIN_IMAGES
        and np.prod(reach[is_short]) ** count < _LEAST_PROBABILITY
    ):
        limits = f"{reach[0]:.0%} of the width, {reach[1]:.0%} of the height"
        return f"no box of {count:,} images, such as {images[0]}, is beyond {limits}"
    return ""


def _sort_copies(
    path: pathlib.Path,
    copies: Iterable[pathlib.Path],
    preferred: Sequence[str],
    are_equal: Callable[[pathlib.Path, pathlib.Path], bool],
) -> list[pathlib.Path]:
    """Return the files that may belong to `path`, first those in a folder with a preferred name.

    Raises:
        ValueError: they are not equal.
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
    return [first, *others]


UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""Exceptions of Pillow for a file that is no complete image."""


def have_same_pixels(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Return whether two files are images of one band with the same values."""
    try:
        return np.array_equal(read_gray_band(first), read_gray_band(second))
    except UNREADABLE:
        return False


def read_gray_band(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an image of one band.

    Returns:
        The pixels (H, W, 1) with the data type of the file.

    Raises:
        ValueError: the bands differ.
        OSError: the file is not a complete image.
    """
    with Image.open(path) as image:
        pixels = np.atleast_3d(
            np.asarray(image.convert("RGB") if image.mode == "P" else image)
        )
    return take_gray_band(pixels)


def take_gray_band(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the band (H, W, 1) of a gray image (H, W, B); some copies repeat it, or add a constant band of opacity.

    Raises:
        ValueError: the bands differ.
    """
    has_alpha = pixels.shape[2] in (2, 4) and np.ptp(pixels[:, :, -1]) == 0
    colors = pixels[:, :, :-1] if has_alpha else pixels
    if (colors != colors[:, :, :1]).any():
        raise ValueError(
            f"the {pixels.shape[2]} bands differ, but a single band is expected"
        )
    return colors[:, :, :1]


def _is_other_format(path: pathlib.Path) -> bool:
    """Return whether the first row of a text file has only numbers, as in labels of YOLO."""
    try:
        lines = read_text_lines(path)
    except (OSError, ValueError):
        return False  # rejected when it is read
    fields = lines[0][1].split() if lines else []
    return len(fields) >= 4 and all(
        re.fullmatch(r"[-+.\de]+", field) for field in fields
    )


def _mirror(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Reflect indices into [0, length) without repeating the border pixels."""
    period = max(1, 2 * (length - 1))
    folded = np.abs(index) % period
    return np.asarray(np.minimum(folded, period - folded))


FUSAR_CLASSES = {
    "Cargo": "cargo",
    "Fishing": "fishing",
    "Tanker": "tanker",
    "Dredger": "dredger",
}
SRSDD_CLASSES = dict.fromkeys(("Cell-Container", "Container", "bulk-cargo"), "cargo")
SRSDD_CLASSES |= {"Fishing": "fishing", "ore-oil": "tanker", "Dredger": "dredger"}
"""Class of each archive category, if the archives and not the lists determine the
classes."""

FUSAR_TO_FUSRS = {
    name: "other"
    for name in FUSAR_CATEGORIES
    if name not in ("Reserved", "Unspecified")
} | FUSAR_CLASSES
SRSDD_TO_FUSRS = SRSDD_CLASSES | {"LawEnforce": "other"}
"""Class of each archive category among five classes. Reserved and Unspecified could be
any ship and have no class."""

CLASSES = {
    4: ("cargo", "fishing", "tanker", "dredger"),
    5: ("cargo", "other", "fishing", "tanker", "dredger"),
}
"""Class names in the order of the labels in the lists, by number of classes."""
HEAD_CLASSES = ("cargo", "other", "fishing")
TAIL_CLASSES = ("tanker", "dredger")
"""The groups of the paper; they do not follow from the counts, and no class is
medium."""

REPEATED_ROW_FLAG = "repeated-row"
"""Flag of a chip whose name occurred before in the same list."""
