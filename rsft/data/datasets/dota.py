"""The objects of DOTA, one sample per object, read through TorchGeo's DOTA or from a plain folder tree.

The crop window around an object of DOTA.

Label files in the text format of DOTA.

Up to two header lines precede rows of the form `x1 y1 x2 y2 x3 y3 x4 y4 class [difficult]`.

Find the images and label files of DOTA: through TorchGeo's DOTA, or in a plain folder tree.
"""

from __future__ import annotations

import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torchgeo.datasets import DOTA, DatasetNotFoundError, NonGeoDataset
from torchgeo.datasets.utils import Path as PathOrText

from rsft.data.datasets._label_files import read_numbered_lines
from rsft.data.datasets.image_folder import make_title, to_image_tensor
from rsft.data.imagery.reader import IMAGE_SUFFIXES, open_image, read_chip
from rsft.errors import DataError
from rsft.types import Pixels, Rejection

Window = tuple[int, int, int, int]
"""x1 y1 x2 y2 in pixels; column x2 and row y2 are outside the window."""


def crop_window(box: tuple[float, ...], width: int, height: int, margin: int = 0, min_side: int = 1) -> Window:
    """Return the horizontal bounding box of a rotated box in whole pixels, clipped to the image.

    Args:
        box: corners x1 y1 ... x4 y4 in pixels; fractions are rounded outwards.
        width: image width in pixels.
        height: image height in pixels.
        margin: pixels added on each side.
        min_side: minimum side in pixels of the clipped box without its margin.

    Returns:
        The window.

    Raises:
        DataError: a corner is NaN or infinite, or the box is outside the image or too small.
    """
    bounds = unclipped_window(box)
    x1, y1, x2, y2 = _clip(bounds, width, height)
    if min(x2 - x1, y2 - y1) <= 0 < min(bounds[2] - bounds[0], bounds[3] - bounds[1]):
        raise DataError(f"the box lies outside the image of {width} x {height} pixels")
    if min(x2 - x1, y2 - y1) < max(1, min_side):
        raise DataError(f"the box has {x2 - x1} x {y2 - y1} pixels; the minimum side is {min_side}")
    return _clip(unclipped_window(box, margin), width, height)


def unclipped_window(box: tuple[float, ...], margin: int = 0) -> Window:
    """Return the window of `crop_window` before clipping; it may extend beyond the image.

    Args:
        box: corners x1 y1 ... x4 y4 in pixels.
        margin: pixels added on each side.

    Returns:
        The window.

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
    return max(0, window[0]), max(0, window[1]), min(width, window[2]), min(height, window[3])


HEADERS = ("imagesource", "gsd")
"""Keys of the header lines `key:value`."""

_DIFFICULTIES = (0, 1, 2)  # 2: an object that was cut when a large image was divided


@dataclass(frozen=True)
class LabelRow:
    """One object of a label file.

    Attributes:
        line: line number in the file, from 1.
        number: row number below the header, from 1; unusable rows count too.
        category: class name, spelled as in `class_lookup`.
        box: corners x1 y1 ... x4 y4 in pixels of the image; they may be NaN, have no area or lie outside the image.
        difficult: 0, 1 or 2.
    """

    line: int
    number: int
    category: str
    box: tuple[float, ...]
    difficult: int


@dataclass
class LabelFile:
    """The content of a label file.

    Attributes:
        header: values of the header lines by key.
        rows: the objects.
        rejected: rows that cannot be parsed.
    """

    header: dict[str, str] = field(default_factory=dict)
    rows: list[LabelRow] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


def read_label_file(path: Path, class_lookup: Mapping[str, str]) -> LabelFile:
    """Read a label file.

    Args:
        path: the file.
        class_lookup: class names by normalized name, see `build_class_lookup`.

    Returns:
        Header, objects and rejected rows.

    Raises:
        DataError: the file cannot be read or is not UTF-8.
    """
    result, number = LabelFile(), 0
    for line, text in read_numbered_lines(path):
        if text.lower().startswith(HEADERS):
            key, _, value = text.partition(":")
            result.header[key.lower()] = value.strip()
            continue
        number += 1
        try:
            result.rows.append(LabelRow(line, number, *_parse(text, class_lookup)))
        except DataError as error:
            result.rejected.append((str(path), line, error.message))
    return result


def build_class_lookup(classes: Iterable[str]) -> dict[str, str]:
    """Map normalized class names to class names.

    Args:
        classes: class names.

    Returns:
        The class names by normalized name.
    """
    return {normalize_class_name(name): name for name in classes}


def normalize_class_name(name: str) -> str:
    """Return the letters of a name in lower case: copies of a data set differ in capitals, hyphens and underscores."""
    return re.sub(r"[^a-z]", "", name.lower())


def _parse(text: str, class_lookup: Mapping[str, str]) -> tuple[str, tuple[float, ...], int]:
    fields = text.split()
    if len(fields) not in (9, 10):
        raise DataError(f"{len(fields)} fields; a row has 8 numbers, a class and optionally a difficulty")
    try:
        box, difficult = tuple(float(field) for field in fields[:8]), int(fields[9]) if len(fields) == 10 else 0
    except ValueError as error:
        raise DataError("a corner or the difficulty is not a number") from error
    category = class_lookup.get(normalize_class_name(fields[8]))
    if category is None:
        raise DataError(f"unknown class {fields[8]}")
    if difficult not in _DIFFICULTIES:
        raise DataError(f"the difficulty is {difficult}; it must be 0, 1 or 2")
    return category, box, difficult


_TORCHGEO_SPLITS: tuple[Literal["train"], Literal["val"]] = ("train", "val")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_VERSION = re.compile(r"(?:version|v)[-_ ]?(\d\.\d)", re.IGNORECASE)
_HORIZONTAL = re.compile(r"hbb|reclabel", re.IGNORECASE)  # folders with horizontal boxes of the same objects
_LABEL_FOLDER = re.compile(r"label|annotation", re.IGNORECASE)
_LABEL_LINE = re.compile(r"(imagesource|gsd)\b|([-+.\de]+\s+){8}\S", re.IGNORECASE)  # a header, or a box and a class

DOTASplit = Literal["train", "val", "test", "all"]
DOTAVersion = Literal["1.0", "1.5", "2.0"]

Key = tuple[str, str]
"""Split and file stem."""


@dataclass
class DOTAPairs:
    """The images of DOTA with their label files.

    Attributes:
        pairs: image and label file by split and stem, sorted. The split is "" if no folder gives it.
        skipped: number of files left out on purpose, by reason.
        rejected: label files without an image, and files that repeat a split and stem.
    """

    pairs: dict[Key, tuple[Path, Path]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejection] = field(default_factory=list)


def find_torchgeo_pairs(
    root: Path, split: DOTASplit, version: DOTAVersion, download: bool, checksum: bool
) -> DOTAPairs:
    """Return the files that `torchgeo.datasets.DOTA` names.

    Args:
        root: the folder.
        split: train, val or test; "all" for all splits.
        version: version of the label files.
        download: let TorchGeo download and extract the files, if they are not in `root`.
        checksum: let TorchGeo check the downloaded files.

    Returns:
        The files of the splits that are in `root` as TorchGeo extracts them; empty if none is.
    """
    result = DOTAPairs()
    for name in _TORCHGEO_SPLITS:
        if split in (name, "all") and (download or _is_extracted(root, name, version)):
            dataset: Any = DOTA(root, name, version, download=download, checksum=checksum)
            for image, labels in zip(
                dataset.sample_df["image_path"], dataset.sample_df["annotation_path"], strict=True
            ):
                result.pairs[name, Path(image).stem] = root / image, root / labels
    return result


def _is_extracted(root: Path, split: str, version: str) -> bool:
    """Return whether TorchGeo finds the files; otherwise it would extract archives into `root`."""
    folders = root / split / "images", root / split / "annotations" / f"version{version}"
    return (root / DOTA.sample_df_path).is_file() and all(folder.is_dir() for folder in folders)


def find_tree_pairs(root: Path, split: DOTASplit, version: str) -> DOTAPairs:
    """Return the pairs of image and label file below a folder.

    An image and its label file have the same split and stem; their folders do not matter. The split is that of the
    nearest parent folder called train, val or test. Label files of other versions or with horizontal boxes are skipped.
    Other text files are skipped if they have no image of the same name, are in no label folder, and do not begin like a
    label file. Of the copies of a file in folders of several versions, one is taken: that of TorchGeo.

    Args:
        root: the folder.
        split: train, val or test; "all" for all images.
        version: version of the label files.

    Returns:
        The pairs.
    """
    return _Tree(root, split, version).result


class _Tree:
    """The search of `find_tree_pairs`."""

    def __init__(self, root: Path, split: DOTASplit, version: str) -> None:
        self.root, self.version, self.result = root, version, DOTAPairs()
        files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
        files = [path for path in files if split in (self._key(path)[0], "all")]
        images = self._by_key(
            [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES], _image_preference(version)
        )
        labels = self._by_key(
            [path for path in files if path.suffix.lower() == ".txt" and self._is_label_file(path, images)],
            _label_preference(version),
        )
        self.result.pairs = {key: (images[key], labels[key]) for key in sorted(images.keys() & labels.keys())}
        for key in sorted(labels.keys() - images.keys()):
            self.result.rejected.append((str(labels[key]), 0, f"image {labels[key].stem} is missing"))
        unlabeled = len(images.keys() - labels.keys())
        if unlabeled:
            self.result.skipped["image without a label file"] = unlabeled

    def _is_label_file(self, path: Path, images: Mapping[Key, Path]) -> bool:
        folders, versions = "/".join(path.relative_to(self.root).parts[:-1]), self._versions(path)
        skipped = self.result.skipped
        if not (self._key(path) in images or _LABEL_FOLDER.search(folders) or _begins_like_labels(path)):
            skipped["text file that is not a label file"] += 1
        elif versions and versions[-1] != self.version:
            skipped[f"label file of v{versions[-1]}"] += 1
        elif _HORIZONTAL.search(folders):
            skipped["label file of horizontal boxes"] += 1
        else:
            return True
        return False

    def _versions(self, path: Path) -> list[str]:
        """Return the versions in the names of the folders; the archive of a version has one too."""
        return _VERSION.findall("/".join(path.relative_to(self.root).parts[:-1]))

    def _key(self, path: Path) -> Key:
        nearest_first = path.relative_to(self.root).parts[-2::-1]
        split = next((_SPLITS[name.lower()] for name in nearest_first if name.lower() in _SPLITS), "")
        return split, path.stem

    def _by_key(self, paths: list[Path], preference: Callable[[list[str]], Any]) -> dict[Key, Path]:
        """Return one path per key: the first one with the lowest preference."""
        candidates = defaultdict[Key, list[Path]](list)
        for path in paths:
            candidates[self._key(path)].append(path)
        best = {}
        for key, group in candidates.items():
            best[key], *others = sorted(group, key=lambda path: preference(self._versions(path)))
            for path in others:
                if self._versions(path) != self._versions(best[key]):
                    self.result.skipped["file that the folder of another version repeats"] += 1
                else:
                    self.result.rejected.append((str(path), 0, f"{path.stem} exists already: {best[key]}"))
        return best


def _image_preference(version: str) -> Callable[[list[str]], tuple[bool, bool, list[str]]]:
    """Prefer images in no folder of a version, then the lowest version: v1.5 has the images of v1.0, v2.0 adds some."""
    return lambda versions: (bool(versions), versions[-1:] > [version], versions)


def _label_preference(version: str) -> Callable[[list[str]], tuple[bool, int]]:
    """Prefer label files in the archive of their version: the archives of TorchGeo may repeat older versions."""
    return lambda versions: (versions[:1] != [version], len(versions))


def _begins_like_labels(path: Path) -> bool:
    try:
        return any(_LABEL_LINE.match(line) for _, line in read_numbered_lines(path)[:1])
    except DataError:  # not a text file
        return False


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
        root: PathOrText = "data",
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
