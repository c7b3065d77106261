"""Ships in the label files of SRSDD.

Classes of FUSRS.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.data.datasets._fusar_files import iterate_files

SRSDD_SPACING_M = 1.0
"""Pixel spacing in meters."""

CHIP_SIZE_STEP = 64
"""The size of a chip is a multiple of this number of pixels."""

MAX_CHIP_SIZE = 4096
"""Largest size of a chip in pixels, four times that of an image of SRSDD."""

SRSDD_CATEGORIES = ("Cell-Container", "Container", "Fishing", "LawEnforce", "Dredger", "ore-oil", "bulk-cargo")
"""Class names in the order of the labels."""

_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
_IMAGE_FOLDERS, _LABEL_FOLDERS = ("images", "jpegimages"), ("labels", "labeltxt")  # preferred among copies
_HEADERS = ("imagesource", "gsd")  # keys of the header lines `key:value`
_ALIASES = {"lawenforcement": "LawEnforce", "bulkcargoship": "bulk-cargo"}
_MAX_COORDINATE = 10**6  # pixels
_MIN_AREA = 1.0  # square pixels

Rejected = list[tuple[str, int, str]]
"""File, line (0 for the whole file) and reason."""


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

    image: pathlib.Path
    label_file: pathlib.Path
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

    def crop(self, image: NDArray[Any]) -> NDArray[Any]:
        """Crop the chip from its image; outside the image, the image is mirrored at its border.

        Args:
            image: (H, W, ...).

        Returns:
            The chip (S, S, ...), where S is the size of `window`.

        Raises:
            ValueError: the box lies outside the image, or is larger than MAX_CHIP_SIZE.
        """
        height, width = image.shape[:2]
        left, top, side = self.window
        if side > MAX_CHIP_SIZE:
            raise ValueError(f"the box needs a chip of {side:,} pixels a side; the limit is {MAX_CHIP_SIZE:,}")
        corners = np.reshape(self.box, (4, 2))
        if (corners.max(axis=0) < 0).any() or (corners.min(axis=0) >= (width, height)).any():
            raise ValueError("the box lies outside the image")
        rows, columns = _mirror(np.arange(top, top + side), height), _mirror(np.arange(left, left + side), width)
        return np.ascontiguousarray(image[np.ix_(rows, columns)])


class SRSDDShips:
    """The ships in the label files of SRSDD.

    Args:
        root: a folder at any depth above the images.
        split: "train" or "test" for the images below a folder of that name, "all" for all images.

    Attributes:
        root: the folder.
        images: the images with labels, sorted by number; none if the folder does not contain the data set.
        ships: by image, then in the order of the label file.
        skipped: number of files that are left out, by reason.
        rejected: rows and files that cannot be used.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "all") -> None:
        self.root = pathlib.Path(root)
        self.split = split
        self.skipped: Counter[str] = Counter()
        self.rejected: Rejected = []
        images, labels = self._find_files()
        self.images = [images[stem] for stem in sorted(images, key=_natural_sort_key) if stem in labels]
        self.ships = [ship for image in self.images for ship in self._read_ships(labels[image.stem], image)]
        self.rejected += [
            (str(labels[stem]), 0, f"image {stem} is missing") for stem in sorted(labels.keys() - images.keys())
        ]
        self.skipped["image without a label file"] = len(images) - len(self.images)
        self.skipped = +self.skipped

    def _find_files(self) -> tuple[dict[str, pathlib.Path], dict[str, pathlib.Path]]:
        """Return the images and the label files by stem."""
        files = iterate_files(self.root) if self.root.is_dir() else ()
        paths = [
            self.root.joinpath(*parts)
            for parts in files
            if self.split == "all" or self.split in map(str.lower, parts[:-1])
        ]
        images, labels = (
            sorted(
                (path for path in paths if path.suffix.lower() in suffixes),
                key=lambda path: (path.parent.name.lower() not in folders, path),
            )
            for suffixes, folders in ((_IMAGE_SUFFIXES, _IMAGE_FOLDERS), ({".txt"}, _LABEL_FOLDERS))
        )
        is_other_format = {path: _is_other_format(path) for path in labels}
        self.skipped["label file in another format"] = sum(is_other_format.values())
        return self._by_stem(images), self._by_stem([path for path in labels if not is_other_format[path]])

    def _by_stem(self, paths: list[pathlib.Path]) -> dict[str, pathlib.Path]:
        path_by_stem: dict[str, pathlib.Path] = {}
        for path in paths:
            if path_by_stem.setdefault(path.stem, path) != path:
                self.rejected.append((str(path), 0, f"{path.stem} exists already: {path_by_stem[path.stem]}"))
        return path_by_stem

    def _read_ships(self, path: pathlib.Path, image: pathlib.Path) -> list[SRSDDShip]:
        ships, number = [], 0
        try:
            lines = _read_lines(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = "the file is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
            self.rejected.append((str(path), 0, reason))
            return []
        for line, text in lines:
            if text.lower().startswith(_HEADERS):
                continue
            number += 1
            try:
                ships.append(SRSDDShip(image, path, line, number, *_parse_row(text)))
            except ValueError as error:
                self.rejected.append((str(path), line, str(error)))
        return ships


def _read_lines(path: pathlib.Path) -> list[tuple[int, str]]:
    """Return number and text of the lines that are not blank."""
    lines = path.read_text("utf-8-sig").splitlines()
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def _is_other_format(path: pathlib.Path) -> bool:
    """Return whether the first row of a text file has only numbers, as in labels of YOLO."""
    try:
        lines = _read_lines(path)
    except (OSError, UnicodeDecodeError):
        return False  # rejected when it is read
    fields = lines[0][1].split() if lines else []
    return len(fields) >= 4 and all(re.fullmatch(r"[-+.\de]+", field) for field in fields)


def _parse_row(text: str) -> tuple[str, tuple[float, ...], int]:
    """Return class, corners and difficulty of a row `x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]`.

    Raises:
        ValueError: the row cannot be used; the message says why.
    """
    fields = text.split()
    has_difficulty = re.fullmatch(r"\d+", fields[-1]) is not None
    name = " ".join(fields[8 : len(fields) - has_difficulty])
    if not name:
        raise ValueError(f"{len(fields)} fields; a row has 8 numbers, a class and optionally a difficulty")
    try:
        box = tuple(float(field) for field in fields[:8])
    except ValueError:
        raise ValueError("a corner is not a number") from None
    spellings = {_normalize(category): category for category in SRSDD_CATEGORIES} | _ALIASES
    if (category := spellings.get(_normalize(name))) is None:
        raise ValueError(f"unknown class {name}")
    difficult = int(fields[-1]) if has_difficulty else 0
    if difficult > 2:  # 2: a ship that was cut when a large image was divided
        raise ValueError(f"the difficulty is {difficult}; it must be 0, 1 or 2")
    x, y = np.reshape(box, (4, 2)).T
    if not abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 >= _MIN_AREA:  # also true for NaN
        raise ValueError("the box has no area")
    if not np.abs(box).max() < _MAX_COORDINATE:
        raise ValueError(f"a corner is not within {_MAX_COORDINATE:,} pixels")
    return category, box, difficult


def _normalize(name: str) -> str:
    """Return the letters of a class name in lower case: copies differ in capitals, hyphens and spaces."""
    return re.sub(r"[^a-z]", "", name.lower())


def _mirror(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Reflect indices into [0, length) without repeating the border pixels."""
    period = max(1, 2 * (length - 1))
    folded = np.abs(index) % period
    return np.asarray(np.minimum(folded, period - folded))


def _natural_sort_key(stem: str) -> tuple[int, str]:
    return (int(stem), "") if stem.isdecimal() else (2**31, stem)


FUSAR_CLASSES = {"Cargo": "cargo", "Fishing": "fishing", "Tanker": "tanker", "Dredger": "dredger"}
SRSDD_CLASSES = {
    "Cell-Container": "cargo",
    "Container": "cargo",
    "bulk-cargo": "cargo",
    "Fishing": "fishing",
    "ore-oil": "tanker",
    "Dredger": "dredger",
}
"""Class of each archive category, if the archives and not the lists determine the classes."""

FUSAR_OTHER = (
    "DiveVessel",
    "HighSpeedCraft",
    "LawEnforce",
    "Other",
    "Passenger",
    "PortTender",
    "SAR",
    "Tug",
    "WingInGrnd",
)
SRSDD_OTHER = ("LawEnforce",)
"""Categories of the class "other" among five classes. Reserved and Unspecified could be any ship and have no class."""

FUSAR_TO_FUSRS = FUSAR_CLASSES | dict.fromkeys(FUSAR_OTHER, "other")
SRSDD_TO_FUSRS = SRSDD_CLASSES | dict.fromkeys(SRSDD_OTHER, "other")
"""Class of each archive category among five classes."""

CLASSES = {
    4: ("cargo", "fishing", "tanker", "dredger"),
    5: ("cargo", "other", "fishing", "tanker", "dredger"),
}
"""Class names in the order of the labels in the lists, by number of classes."""
HEAD_CLASSES, TAIL_CLASSES = ("cargo", "other", "fishing"), ("tanker", "dredger")
"""The groups of the paper; they do not follow from the counts, and no class is medium."""

REPEATED_ROW_FLAG = "repeated-row"
"""Flag of a chip whose name occurred before in the same list."""
