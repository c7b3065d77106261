"""Ships in the label files of SRSDD, the text format of these files, which DOTA has too, and the classes of FUSRS.

This module imports no torch.
"""

import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsft.data.datasets._fusar_files import FUSAR_CATEGORIES, iterate_files, read_text_lines

Rejected = list[tuple[str, int, str]]
"""File, line (0 for the whole file) and reason."""

_HEADERS = ("imagesource", "gsd")  # keys of the header lines `key:value`


@dataclass(frozen=True)
class LabelRow:
    """One object of a label file.

    Attributes:
        line: line number in the file, from 1.
        number: row number below the header, from 1; unusable rows count too.
        box: corners x1 y1 ... x4 y4 in pixels of the image; they may be NaN, have no area or lie outside the image.
        difficult: difficulty of the object: 0, 1, or 2 for an object that was cut when a large image was divided.
    """

    line: int
    number: int
    category: str
    box: tuple[float, ...]
    difficult: int


def read_label_file(path: pathlib.Path, lookup: Mapping[str, str]) -> tuple[dict[str, str], list[LabelRow], Rejected]:
    """Read up to two header lines, and rows `x1 y1 x2 y2 x3 y3 x4 y4 class [difficulty]`.

    Returns:
        Values of the header lines by key, the objects, and the rows that cannot be parsed. A file that cannot be read
        is rejected as a whole.
    """
    header: dict[str, str] = {}
    rows: list[LabelRow] = []
    rejected: Rejected = []
    try:
        lines = read_text_lines(path)
    except (OSError, ValueError) as error:
        reason = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else "is not UTF-8 text"
        return header, rows, [(str(path), 0, f"the file {reason}")]
    for line, text in lines:
        if text.lower().startswith(_HEADERS):
            key, _, value = text.partition(":")
            header[key.lower()] = value.strip()
            continue
        try:
            rows.append(LabelRow(line, len(rows) + len(rejected) + 1, *_parse_row(text, lookup)))
        except ValueError as error:
            rejected.append((str(path), line, str(error)))
    return header, rows, rejected


def build_class_lookup(classes: Iterable[str]) -> dict[str, str]:
    """Return class names by normalized name: copies differ in capitals, hyphens and spaces."""
    return {_normalize(name): name for name in classes}


def _normalize(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def _parse_row(text: str, class_lookup: Mapping[str, str]) -> tuple[str, tuple[float, ...], int]:
    """Return class, corners and difficulty; raise ValueError with the reason if the row cannot be used."""
    fields = text.split()
    difficult = int(fields.pop()) if re.fullmatch(r"\d+", fields[-1]) else 0
    name = " ".join(fields[8:])
    if not name:
        raise ValueError(f"{len(text.split())} fields; a row has 8 numbers, a class and optionally a difficulty")
    try:
        box = tuple(float(field) for field in fields[:8])
    except ValueError:
        raise ValueError("a corner is not a number") from None
    if (category := class_lookup.get(_normalize(name))) is None:
        raise ValueError(f"unknown class {name}")
    if difficult > 2:
        raise ValueError(f"the difficulty is {difficult}; it must be 0, 1 or 2")
    return category, box, difficult


def parse_finite(text: str | None) -> float | None:
    """Return the number in a text; None for a missing, infinite or invalid one, such as "null"."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


SRSDD_SPACING_M = 1.0
"""Pixel spacing in meters."""

CHIP_SIZE_STEP = 64
"""The size of a chip is a multiple of this number of pixels."""

MAX_CHIP_SIZE = 4096
"""Largest size of a chip in pixels, four times that of an image of SRSDD."""

SRSDD_CATEGORIES = ("Cell-Container", "Container", "Fishing", "LawEnforce", "Dredger", "ore-oil", "bulk-cargo")
"""Class names in the order of the labels."""

_CLASS_LOOKUP = build_class_lookup(SRSDD_CATEGORIES) | {"lawenforcement": "LawEnforce", "bulkcargoship": "bulk-cargo"}
_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
_MAX_COORDINATE = 10**6  # pixels
_MIN_AREA = 1.0  # square pixels


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
        side = CHIP_SIZE_STEP * int(np.ceil(max(1.0, (high - low).max()) / CHIP_SIZE_STEP))
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
            raise ValueError(f"the box needs a chip of {side:,} pixels a side; the limit is {MAX_CHIP_SIZE:,}")
        corners = np.reshape(self.box, (4, 2))
        if (corners.max(axis=0) < 0).any() or (corners.min(axis=0) >= (width, height)).any():
            raise ValueError("the box lies outside the image")
        rows, columns = _mirror(np.arange(top, top + side), height), _mirror(np.arange(left, left + side), width)
        return np.ascontiguousarray(image[np.ix_(rows, columns)])


class SRSDDShips:
    """The ships in the label files of SRSDD at any depth below a folder.

    Args:
        root: the folder.
        split: "train" or "test" for the images below a folder of that name, "all" for all images.

    Attributes:
        images: the images with labels, sorted by number; none if the folder does not contain the data set.
        ships: by image, then in the order of the label file.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "all") -> None:
        self.root, self.split = pathlib.Path(root), split
        self.skipped: Counter[str] = Counter()
        self.rejected: Rejected = []
        images, labels = self._find_files()
        by_number = sorted(images, key=lambda stem: (int(stem), "") if stem.isdecimal() else (2**31, stem))
        self.images = [images[stem] for stem in by_number if stem in labels]
        self.ships = [ship for image in self.images for ship in self._read_ships(labels[image.stem], image)]
        missing = sorted(labels.keys() - images.keys())
        self.rejected += [(str(labels[stem]), 0, f"image {stem} is missing") for stem in missing]
        self.skipped["image without a label file"] = len(images) - len(self.images)
        self.skipped = +self.skipped

    def _find_files(self) -> tuple[dict[str, pathlib.Path], dict[str, pathlib.Path]]:
        """Return the images and the label files by stem."""
        files = iterate_files(self.root)
        files = (parts for parts in files if self.split == "all" or self.split in map(str.lower, parts[:-1]))
        paths = [self.root.joinpath(*parts) for parts in files]
        labels = [path for path in paths if path.suffix.lower() == ".txt"]
        usable = [path for path in labels if not _is_other_format(path)]
        self.skipped["label file in another format"] = len(labels) - len(usable)
        images = [path for path in paths if path.suffix.lower() in _IMAGE_SUFFIXES]
        return self._by_stem(images, ("images", "jpegimages")), self._by_stem(usable, ("labels", "labeltxt"))

    def _by_stem(self, paths: list[pathlib.Path], preferred: tuple[str, ...]) -> dict[str, pathlib.Path]:
        """Return the path of each stem; of copies, one in a folder with a preferred name."""
        path_by_stem: dict[str, pathlib.Path] = {}
        for path in sorted(paths, key=lambda path: (path.parent.name.lower() not in preferred, path)):
            if path_by_stem.setdefault(path.stem, path) != path:
                self.rejected.append((str(path), 0, f"{path.stem} exists already: {path_by_stem[path.stem]}"))
        return path_by_stem

    def _read_ships(self, path: pathlib.Path, image: pathlib.Path) -> Iterator[SRSDDShip]:
        _, rows, rejected = read_label_file(path, _CLASS_LOOKUP)
        for row in rows:
            x, y = np.reshape(row.box, (4, 2)).T
            if not abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 >= _MIN_AREA:  # also true for NaN
                rejected.append((str(path), row.line, "the box has no area"))
            elif not np.abs(row.box).max() < _MAX_COORDINATE:
                rejected.append((str(path), row.line, f"a corner is not within {_MAX_COORDINATE:,} pixels"))
            else:
                yield SRSDDShip(**vars(row), image=image, label_file=path)
        self.rejected += sorted(rejected)


def _is_other_format(path: pathlib.Path) -> bool:
    """Return whether the first row of a text file has only numbers, as in labels of YOLO."""
    try:
        lines = read_text_lines(path)
    except (OSError, ValueError):
        return False  # rejected when it is read
    fields = lines[0][1].split() if lines else []
    return len(fields) >= 4 and all(re.fullmatch(r"[-+.\de]+", field) for field in fields)


def _mirror(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Reflect indices into [0, length) without repeating the border pixels."""
    period = max(1, 2 * (length - 1))
    folded = np.abs(index) % period
    return np.asarray(np.minimum(folded, period - folded))


FUSAR_CLASSES = {"Cargo": "cargo", "Fishing": "fishing", "Tanker": "tanker", "Dredger": "dredger"}
SRSDD_CLASSES = dict.fromkeys(("Cell-Container", "Container", "bulk-cargo"), "cargo")
SRSDD_CLASSES |= {"Fishing": "fishing", "ore-oil": "tanker", "Dredger": "dredger"}
"""Class of each archive category, if the archives and not the lists determine the classes."""

FUSAR_TO_FUSRS = {name: "other" for name in FUSAR_CATEGORIES if name not in ("Reserved", "Unspecified")} | FUSAR_CLASSES
SRSDD_TO_FUSRS = SRSDD_CLASSES | {"LawEnforce": "other"}
"""Class of each archive category among five classes. Reserved and Unspecified could be any ship and have no class."""

CLASSES = {4: ("cargo", "fishing", "tanker", "dredger"), 5: ("cargo", "other", "fishing", "tanker", "dredger")}
"""Class names in the order of the labels in the lists, by number of classes."""
HEAD_CLASSES, TAIL_CLASSES = ("cargo", "other", "fishing"), ("tanker", "dredger")
"""The groups of the paper; they do not follow from the counts, and no class is medium."""

REPEATED_ROW_FLAG = "repeated-row"
"""Flag of a chip whose name occurred before in the same list."""
