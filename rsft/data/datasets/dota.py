"""The objects of DOTA, one sample per object, read through TorchGeo's DOTA or from a plain folder tree."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torchgeo.datasets import DOTA, DatasetNotFoundError
from torchgeo.datasets.utils import Path as PathOrText

from rsft.data.chips.record import ChipRecord, describe_rejections
from rsft.data.datasets.formats.box_labels import (
    LabelRow,
    build_class_lookup,
    read_label_file,
)
from rsft.data.datasets.formats.fusrs_classes import REPEATED_ROW_FLAG
from rsft.data.datasets.formats.label_rows import read_list_rows, read_numbered_lines
from rsft.data.datasets.formats.text_files import find_split, parse_finite
from rsft.data.datasets.images import (
    LabeledImages,
    Sample,
    Transforms,
    plot_sample,
    to_image_tensor,
)
from rsft.data.imagery.reader import IMAGE_SUFFIXES, open_image, read_chip
from rsft.data.imagery.scene_uri import LastImageCache
from rsft.errors import DataError, RequestError
from rsft.types import Pixels, Rejection
from rsft.utils.operating_system import walk_files

Window = tuple[int, int, int, int]
"""x1 y1 x2 y2 in pixels; column x2 and row y2 are outside the window."""


def crop_window(
    box: tuple[float, ...], width: int, height: int, margin: int = 0, min_side: int = 1
) -> Window:
    """Return the horizontal bounding box of a rotated box in whole pixels, clipped to the image.

    Args:
        box: corners x1 y1 ... x4 y4 in pixels; fractions are rounded outwards.
        width: image width in pixels.
        height: image height in pixels.
        margin: pixels added on each side.
        min_side: minimum side in pixels of the clipped box without its margin.

    Returns:
        The window; it is not empty.

    Raises:
        DataError: a corner is NaN or infinite, or the box is outside the image or too
            small.
    """
    bounds = unclipped_window(box)
    x1, y1, x2, y2 = _clip(bounds, width, height)
    if min(x2 - x1, y2 - y1) <= 0 < min(bounds[2] - bounds[0], bounds[3] - bounds[1]):
        raise DataError(f"the box lies outside the image of {width} x {height} pixels")
    if min(x2 - x1, y2 - y1) < max(1, min_side):
        raise DataError(
            f"the box has {x2 - x1} x {y2 - y1} pixels; the minimum side is {min_side}"
        )
    return _clip(unclipped_window(box, margin), width, height)


def unclipped_window(box: tuple[float, ...], margin: int = 0) -> Window:
    """Return the window of `crop_window` before clipping; it may extend beyond the image.

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
    return (
        max(0, window[0]),
        max(0, window[1]),
        min(width, window[2]),
        min(height, window[3]),
    )


DOTASplit = Literal["train", "val", "test", "all"]
DOTAVersion = Literal["1.0", "1.5", "2.0"]

Key = tuple[str, str]
"""Split and file stem. The split is "" if no folder gives it."""

_VERSION = re.compile(r"(?:version|v)[-_ ]?(\d\.\d)", re.IGNORECASE)
_HORIZONTAL = re.compile(
    r"hbb|reclabel", re.IGNORECASE
)  # folders with horizontal boxes of the same objects
_LABEL_FOLDER = re.compile(r"label|annotation", re.IGNORECASE)
_LABEL_LINE = re.compile(
    r"(imagesource|gsd)\b|([-+.\de]+\s+){8}\S", re.IGNORECASE
)  # a header, or a box and a class


def _torchgeo_pairs(
    dataset: DOTAObjects, root: Path
) -> Iterator[tuple[Key, tuple[Path, Path]]]:
    """Yield image and label file, by key, as `torchgeo.datasets.DOTA` names them; none if they are not in `root`."""
    for split in ("train", "val"):
        folders = (
            root / split / "images",
            root / split / "annotations" / f"version{dataset.version}",
        )
        is_extracted = (root / DOTA.sample_df_path).is_file() and all(
            folder.is_dir() for folder in folders
        )
        # without the files, TorchGeo would extract archives into `root`
        if dataset.split in (split, "all") and (dataset.download or is_extracted):
            source: Any = DOTA(
                root,
                split,
                dataset.version,
                download=dataset.download,
                checksum=dataset.checksum,
            )
            for image, labels in source.sample_df[
                ["image_path", "annotation_path"]
            ].itertuples(index=False):
                yield (split, Path(image).stem), (root / image, root / labels)


class _Tree:
    """The pairs of image and label file below a folder.

    An image and its label file have the same split and stem; their folders do not
    matter. The split is that of the nearest parent folder called train, val or test.
    Label files of other versions or with horizontal boxes are skipped. Other text files
    are skipped if they have no image of the same name, are in no label folder, and do
    not begin like a label file. Of the copies of a file in folders of several versions,
    one is taken: that of TorchGeo.

    Attributes:
        pairs: image and label file by key, sorted.
        skipped: number of files left out on purpose, by reason.
        rejected: label files without an image, and files that repeat a key.
    """

    def __init__(self, root: Path, split: DOTASplit, version: DOTAVersion) -> None:
        self.root = root
        self.version = version
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        if root.is_dir():
            files = sorted(
                path for path in map(Path, walk_files(root)) if path.is_file()
            )
        else:
            files = []
        files = [path for path in files if split in (self._key(path)[0], "all")]
        # v1.5 has the images of v1.0 and v2.0 adds some: prefer images in no folder of
        # a version, then the lowest one
        images = self._by_key(
            [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES],
            lambda versions: (bool(versions), versions[-1:] > [version], versions),
        )
        # the archives of TorchGeo may repeat older versions: prefer label files in the
        # archive of their version
        labels = self._by_key(
            [
                path
                for path in files
                if path.suffix.lower() == ".txt" and self._is_label_file(path, images)
            ],
            lambda versions: (versions[:1] != [version], len(versions)),
        )
        self.pairs = {
            key: (images[key], labels[key])
            for key in sorted(images.keys() & labels.keys())
        }
        for key in sorted(labels.keys() - images.keys()):
            self.rejected.append(
                (str(labels[key]), 0, f"image {labels[key].stem} is missing")
            )
        self.skipped["image without a label file"] = len(images.keys() - labels.keys())
        self.skipped = +self.skipped

    def _is_label_file(self, path: Path, images: Mapping[Key, Path]) -> bool:
        folders = "/".join(path.relative_to(self.root).parts[:-1])
        versions = self._versions(path)
        if not (
            self._key(path) in images
            or _LABEL_FOLDER.search(folders)
            or _begins_like_labels(path)
        ):
            self.skipped["text file that is not a label file"] += 1
        elif versions and versions[-1] != self.version:
            self.skipped[f"label file of v{versions[-1]}"] += 1
        elif _HORIZONTAL.search(folders):
            self.skipped["label file of horizontal boxes"] += 1
        else:
            return True
        return False

    def _versions(self, path: Path) -> list[str]:
        """Return the versions in the names of the folders; the archive of a version has one too."""
        return _VERSION.findall("/".join(path.relative_to(self.root).parts[:-1]))

    def _key(self, path: Path) -> Key:
        return find_split(path, self.root), path.stem

    def _by_key(
        self, paths: list[Path], preference: Callable[[list[str]], Any]
    ) -> dict[Key, Path]:
        """Return one path per key: the first one with the lowest preference."""
        best: dict[Key, Path] = {}
        for path in sorted(paths, key=lambda path: preference(self._versions(path))):
            first = best.setdefault(self._key(path), path)
            if self._versions(path) != self._versions(first):
                self.skipped["file that the folder of another version repeats"] += 1
            elif path != first:
                self.rejected.append(
                    (str(path), 0, f"{path.stem} exists already: {first}")
                )
        return best


def _begins_like_labels(path: Path) -> bool:
    try:
        return any(_LABEL_LINE.match(line) for _, line in read_numbered_lines(path)[:1])
    except DataError:  # not a text file
        return False


CLASSES: tuple[str, ...] = DOTA.classes
"""Class names: the first 15 are in v1.0; v1.5 added container-crane, v2.0 added airport
and helipad."""

_CLASS_LOOKUP = build_class_lookup(CLASSES)
_MODE_FLAGS = {"L": "gray-repeated", "RGB": "", "RGBA": "alpha-dropped"}


@dataclass(frozen=True)
class DOTAImage:
    """An image with its label file, whose header has the sensor and the pixel spacing in meters.

    Attributes:
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
        return [
            value - origin
            for value, origin in zip(self.box, self.window[:2] * 4, strict=True)
        ]


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
        min_side: int = 4,
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
            min_side: minimum side of an object's horizontal bounding box in pixels;
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
        self.margin = margin
        self.min_side = min_side
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        pairs = dict(_torchgeo_pairs(self, Path(root)))
        if not pairs:
            tree = _Tree(Path(root), split, version)
            pairs = tree.pairs
            self.skipped = tree.skipped
            self.rejected = tree.rejected
        self.images: list[DOTAImage] = []
        self.objects: list[DOTAObject] = []
        for (image_split, _), (image, label_file) in pairs.items():
            self._read_image(image, label_file, image_split)
        if pairs and not self.images:
            raise DataError(
                "no image can be used", root, describe_rejections(self.rejected)
            )
        if not self.images:
            error = DatasetNotFoundError(self)
            for reason, count in self.skipped.items():
                error.add_note(f"found: {count} x {reason}")
            raise error

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.objects)

    def load_sample(self, index: int) -> Sample:
        """Return image (3, h, w), the crop in 0-255, label, and bbox: corners (8,) in pixels of the crop."""
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
        figure.axes[0].add_patch(
            Polygon(
                sample["bbox"].numpy().reshape(4, 2), fill=False, edgecolor="tab:orange"
            )
        )
        return figure

    def _read_image(self, path: Path, label_file: Path, split: str) -> None:
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
        spacing = max(parse_finite(header.get("gsd")) or 0.0, 0.0) or None
        image = DOTAImage(
            path,
            label_file,
            split,
            width,
            height,
            header.get("imagesource"),
            spacing,
            _MODE_FLAGS[mode],
        )
        self.images.append(image)
        seen: dict[tuple[str, Window], int] = {}
        for row in rows:
            if row.category not in self.classes:
                self.skipped[
                    f"{row.category}: not among the {len(self.classes)} classes"
                ] += 1
                continue
            try:
                window = crop_window(row.box, width, height, self.margin, self.min_side)
                first = seen.setdefault((row.category, window), row.line)
                if first != row.line:
                    raise DataError(f"same class and window as line {first}")
            except DataError as error:
                self.rejected.append((str(label_file), row.line, error.message))
            else:
                clipped = window != unclipped_window(row.box, self.margin)
                self.objects.append(
                    DOTAObject(**vars(row), image=image, window=window, clipped=clipped)
                )


def read_rgb(path: Path) -> Pixels:
    """Read an image as RGB (H, W, 3): a gray band is repeated, a fourth band is dropped."""
    pixels = read_chip(path)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, axis=2)
    return pixels[:, :, :3]


def crop_object(item: DOTAObject, pixels: Pixels) -> Pixels:
    """Return the window (h, w, 3) of an object, a view of its image (H, W, 3)."""
    x1, y1, x2, y2 = item.window
    return pixels[y1:y2, x1:x2]


read_rgb_cached = LastImageCache(read_rgb)
"""`read_rgb`; the last image is cached, so it is decoded once for consecutive objects
of one image."""


def make_crop_record(item: DOTAObject, split: str, version: DOTAVersion) -> ChipRecord:
    """Make the record of an object; its pixels are cropped when the record is stored."""
    image = item.image
    flags = (
        "clipped" * item.clipped,
        "difficult" * bool(item.difficult),
        item.image.flag,
    )
    columns: dict[str, object] = {
        "group_key": image.stem,
        "source": f"DOTA-v{version}",
        "sensor": image.sensor,
    }
    columns |= {
        "spacing_m": image.spacing_m,
        "box": item.box_in_crop,
        "flags": ",".join(filter(None, flags)),
    }
    inputs = (image.label_file, partial(_crop_cached, item), item.line)
    return ChipRecord(
        item.name,
        split,
        item.category,
        *inputs,
        extra_columns=columns,
        image_paths=(image.path,),
    )


LISTS = {"train": "dota_train_idx.txt", "val": "dota_val_idx.txt"}
"""List of the paper's authors for each split, with rows
`<folder>/<class>/<image>_<x1>_<y1>_<x2>_<y2>.png <label>`."""


def list_crop_records(
    dataset: DOTAObjects, lists: Path, version: DOTAVersion
) -> list[ChipRecord]:
    """Make one record per row of the authors' lists, whose windows are bounding boxes without margin or clipping.

    Args:
        dataset: the objects of all splits. Rows without an object are added to its
            rejected rows, and objects in no row are counted as skipped.
        lists: folder of the lists.
        version: version of the labels.

    Returns:
        The records, sorted by image, so that each image is decoded once. Repeated rows
        of a name in a split are called name__2, name__3 and so on.

    Raises:
        RequestError: a list is missing.
        DataError: a list is not a text file, or no row has an object.
    """
    objects: dict[tuple[object, ...], DOTAObject] = {
        (*unclipped_window(item.box), item.image.stem, item.category): item
        for item in dataset.objects
    }
    records = list[ChipRecord]()
    counts = Counter[tuple[str, str]]()
    listed = set[str]()
    for split, file_name in LISTS.items():
        path = lists / file_name
        if not path.is_file():
            raise RequestError(
                f"{file_name} is missing",
                lists,
                "give the folder of the authors' lists with --lists",
            )
        for line, chip_path, _ in read_list_rows(path):
            name = Path(chip_path).stem
            category = Path(chip_path).parent.name
            stem, *window = name.rsplit("_", 4)
            is_window = len(window) == 4 and all(
                re.fullmatch("-?[0-9]{1,6}", text) for text in window
            )
            if is_window:
                item = objects.get((*map(int, window), stem, category))
            else:
                item = None
            if item is None:
                dataset.rejected.append(
                    (str(path), line, f"no label file has the object {category}/{name}")
                )
                continue
            listed.add(item.name + item.category)
            counts[split, name] += 1
            count = counts[split, name]
            record = make_crop_record(item, split, version)
            flags = [
                record.extra_columns["flags"],
                REPEATED_ROW_FLAG if count > 1 else "",
            ]
            columns = {
                **record.extra_columns,
                "flags": ",".join(map(str, filter(None, flags))),
            }
            records.append(
                replace(
                    record,
                    name=f"{name}__{count}" if count > 1 else name,
                    extra_columns=columns,
                )
            )
    if not records:
        raise DataError(
            "no row of the lists has an object",
            lists,
            describe_rejections(dataset.rejected),
        )
    dataset.skipped["object in no list"] = len(dataset.objects) - len(listed)
    return sorted(
        records, key=lambda record: (record.image_paths, record.line, record.name)
    )


def _crop_cached(item: DOTAObject) -> Pixels:
    try:
        return crop_object(item, read_rgb_cached(item.image.path))
    # reported at the row of the label file, so the message must name the image
    except DataError as error:
        raise DataError(f"{item.image.path.name}: {error.message}") from error.__cause__
