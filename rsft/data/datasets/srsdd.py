"""SRSDD dataset."""

from __future__ import annotations

import os
import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets.errors import DatasetNotFoundError
from torchgeo.datasets.geo import NonGeoDataset

from ._sar_common import iterate_files, load_gray_image, stretch_to_white

SRSDD_SPACING_M = 1.0
"""Pixel spacing in meters."""

CHIP_SIZE_STEP = 64
"""The size of a chip is a multiple of this number of pixels."""

_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
_IMAGE_FOLDERS, _LABEL_FOLDERS = ("images", "jpegimages"), ("labels", "labeltxt")  # preferred among copies
_HEADERS = ("imagesource", "gsd")  # keys of the header lines `key:value`
_ALIASES = {"lawenforcement": "LawEnforce", "bulkcargoship": "bulk-cargo"}
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
            ValueError: the box lies outside the image.
        """
        height, width = image.shape[:2]
        left, top, side = self.window
        corners = np.reshape(self.box, (4, 2))
        if (corners.max(axis=0) < 0).any() or (corners.min(axis=0) >= (width, height)).any():
            raise ValueError("the box lies outside the image")
        rows, columns = _mirror(np.arange(top, top + side), height), _mirror(np.arange(left, left + side), width)
        return np.ascontiguousarray(image[np.ix_(rows, columns)])


class SRSDD(NonGeoDataset):
    """SRSDD dataset.

    `SRSDD-v1.0 <https://doi.org/10.3390/rs13245104>`__ is a dataset for the detection of rotated ships in images of the
    SAR satellite Gaofen-3 in spotlight mode.

    Dataset features:

    * 666 images of 1024 x 1024 px with 2,884 ships
    * single band, C band, pixels of 1 m
    * multi-class object detection with horizontal and oriented bounding boxes

    Dataset format:

    * images are PNG files
    * labels are text files in the format of DOTA, with or without its two header lines

    Dataset classes:

    0. Cell-Container (2,053 ships)
    1. Container (89)
    2. Fishing (288)
    3. LawEnforce (25)
    4. Dredger (263)
    5. ore-oil (166)
    6. bulk-cargo (in some copies of the dataset only)

    An image and its label file have the same stem; the names of their folders do not matter. Labels in another format,
    for example of YOLO, are left out. The dataset must be downloaded by hand.

    If you use this dataset in your research, please cite the following paper:

    * https://doi.org/10.3390/rs13245104

    Attributes:
        images: the images with labels, sorted by number.
        ships: by image, then in the order of the label file.
        skipped: number of files that are left out, by reason.
        rejected: rows and files that cannot be used.
    """

    classes: ClassVar[tuple[str, ...]] = (
        "Cell-Container",
        "Container",
        "Fishing",
        "LawEnforce",
        "Dredger",
        "ore-oil",
        "bulk-cargo",
    )
    splits = ("train", "test", "all")
    valid_orientations = ("horizontal", "oriented")

    def __init__(
        self,
        root: str | os.PathLike[str] = "data",
        split: str = "train",
        bbox_orientation: str = "oriented",
        transforms: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ) -> None:
        """Initialize a new SRSDD dataset instance.

        Args:
            root: root directory where dataset can be found
            split: "train" or "test" for the images below a folder of that name, "all" for all images
            bbox_orientation: "oriented" for boxes x1 y1 ... x4 y4 or "horizontal" for boxes xmin ymin xmax ymax
            transforms: a function/transform that takes input sample and its target as
                entry and returns a transformed version

        Raises:
            AssertionError: If *split* or *bbox_orientation* argument is invalid.
            DatasetNotFoundError: If dataset is not found.
        """
        assert split in self.splits, f"Split '{split}' not supported, use one of {self.splits}"
        assert bbox_orientation in self.valid_orientations, (
            f"Bounding box orientation must be one of {self.valid_orientations}"
        )
        self.root = root
        self.split = split
        self.bbox_orientation = bbox_orientation
        self.transforms = transforms
        self.skipped: Counter[str] = Counter()
        self.rejected: Rejected = []
        images, labels = self._find_files()
        self.images = [images[stem] for stem in sorted(images, key=_natural_sort_key) if stem in labels]
        if not self.images:
            raise DatasetNotFoundError(self)
        self.ships = [ship for image in self.images for ship in self._read_ships(labels[image.stem], image)]
        self._ships_of = defaultdict[pathlib.Path, list[SRSDDShip]](list)
        for ship in self.ships:
            self._ships_of[ship.image].append(ship)
        self.rejected += [
            (str(labels[stem]), 0, f"image {stem} is missing") for stem in sorted(labels.keys() - images.keys())
        ]
        self.skipped["image without a label file"] = len(images) - len(self.images)
        self.skipped = +self.skipped

    def __len__(self) -> int:
        """Return the number of samples in the dataset.

        Returns:
            length of the dataset
        """
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return an index within the dataset.

        Args:
            index: index to return

        Returns:
            image (1, H, W), label (N,), and bbox (N, 8) or bbox_xyxy (N, 4)
        """
        path = self.images[index]
        ships = self._ships_of[path]
        boxes = torch.tensor([ship.box for ship in ships], dtype=torch.float32).reshape(-1, 8)
        labels = torch.tensor([self.classes.index(ship.category) for ship in ships], dtype=torch.long)
        sample = {"image": load_gray_image(path), "label": labels}
        if self.bbox_orientation == "oriented":
            sample["bbox"] = boxes
        else:
            corners = boxes.reshape(-1, 4, 2)
            sample["bbox_xyxy"] = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)
        if self.transforms is not None:
            sample = self.transforms(sample)
        return sample

    def plot(
        self,
        sample: dict[str, Tensor],
        show_titles: bool = True,
        suptitle: str | None = None,
        box_alpha: float = 0.7,
    ) -> Figure:
        """Plot a sample from the dataset.

        Args:
            sample: a sample returned by :meth:`__getitem__`
            show_titles: flag indicating whether to show the classes beside the boxes
            suptitle: optional string to use as a suptitle
            box_alpha: alpha value for boxes

        Returns:
            a matplotlib Figure with the rendered sample
        """
        figure, axes = plt.subplots(figsize=(10, 10))
        axes.imshow(stretch_to_white(sample["image"]), cmap="gray", vmin=0, vmax=1)
        axes.axis("off")
        if "bbox" in sample:
            polygons = sample["bbox"].reshape(-1, 4, 2)
        else:
            polygons = sample["bbox_xyxy"][:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        colors = plt.get_cmap("tab10")
        for polygon, label in zip(polygons.numpy(), sample["label"].tolist(), strict=True):
            axes.add_patch(Polygon(polygon, fill=False, edgecolor=colors(label), alpha=box_alpha))
            if show_titles:
                axes.annotate(self.classes[label], polygon[0], color=colors(label))
        if suptitle is not None:
            figure.suptitle(suptitle)
        return figure

    def _find_files(self) -> tuple[dict[str, pathlib.Path], dict[str, pathlib.Path]]:
        """Return the images and the label files by stem."""
        root = pathlib.Path(self.root)
        files = iterate_files(root) if root.is_dir() else ()
        paths = [
            root.joinpath(*parts) for parts in files if self.split == "all" or self.split in map(str.lower, parts[:-1])
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
    spellings = {_normalize(category): category for category in SRSDD.classes} | _ALIASES
    if (category := spellings.get(_normalize(name))) is None:
        raise ValueError(f"unknown class {name}")
    difficult = int(fields[-1]) if has_difficulty else 0
    if difficult > 2:  # 2: a ship that was cut when a large image was divided
        raise ValueError(f"the difficulty is {difficult}; it must be 0, 1 or 2")
    x, y = np.reshape(box, (4, 2)).T
    if not abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 >= _MIN_AREA:  # also true for NaN
        raise ValueError("the box has no area")
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
