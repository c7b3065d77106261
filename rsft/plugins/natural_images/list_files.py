"""Images in published list files with rows `path label`. This module needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rsft.data.chips.manifest import SPLITS
from rsft.data.chips.record import describe_rejections
from rsft.data.datasets.archive_search import PublishedArchive
from rsft.data.datasets.formats.label_rows import (
    describe_row_fault,
    exists,
    read_list_rows,
)
from rsft.errors import RequestError
from rsft.plugins.natural_images.archives import (
    INATURALIST_2018_ARCHIVE,
    PLACES_LT_ARCHIVE,
)
from rsft.types import Rejection
from rsft.utils.licenses import UNKNOWN


@dataclass(frozen=True)
class PublishedLists:
    """The published lists of a data set.

    Attributes:
        title: name of the data set.
        lists: file name of the list of each split.
        rows: number of rows of each list.
        classes: number of classes.
        archive: the archive of the images.
        license: license of the images.
    """

    title: str
    lists: Mapping[str, str]
    rows: Mapping[str, int]
    classes: int
    archive: PublishedArchive
    license: str = UNKNOWN


PLACES_LT = PublishedLists(
    title="Places-LT",
    lists={split: f"Places_LT_{split}.txt" for split in SPLITS},
    rows={"train": 62_500, "val": 7_300, "test": 36_500},
    classes=365,
    archive=PLACES_LT_ARCHIVE,
)
INATURALIST_2018 = PublishedLists(
    title="iNaturalist 2018",
    lists={split: f"iNaturalist18_{split}.txt" for split in ("train", "val")},
    rows={"train": 437_513, "val": 24_426},
    classes=8_142,
    archive=INATURALIST_2018_ARCHIVE,
    license="non-commercial, research-only",
)


class ListFiles:
    """The images in the list files of a data set.

    Args:
        published: the published lists.
        root: the folder of the lists, and that their paths are relative to.

    Attributes:
        images: split, path and class of every existing image, in the order of the
            lists.
        classes: class names in the order of the labels: the folder of the first
            image, see `folder_to_class_name`, otherwise the number of the label.
        rejected: rows that cannot be used, and lists that differ in length from the
            published ones.

    Raises:
        RequestError: the training list or all of the images are missing.
        DataError: a list is not a text file.
    """

    def __init__(self, published: PublishedLists, root: Path) -> None:
        self.published = published
        self.root = root
        self.rejected: list[Rejection] = []
        self.classes = [f"class-{label}" for label in range(published.classes)]
        self._rows: list[tuple[str, str, int]] = []
        self._seen: set[str] = set()
        self._labels: dict[str, int] = {}
        train = root / published.lists["train"]
        if not train.is_file():
            raise RequestError(
                f"{train.name} is missing", root, "copy the lists into the folder"
            )
        for split, name in published.lists.items():
            self._read_list(split, root / name)
        for name, label in reversed(self._labels.items()):
            self.classes[label] = name
        self.images = [
            (split, path, self.classes[label]) for split, path, label in self._rows
        ]
        if not self.images:
            raise RequestError(
                f"none of the images of {published.title} is in the folder",
                root,
                describe_rejections(self.rejected),
            )

    def _read_list(self, split: str, path: Path) -> None:
        rows = list(read_list_rows(path)) if path.is_file() else []
        expected = self.published.rows[split]
        if len(rows) != expected:
            fault = f"{len(rows):,} rows; published: {expected:,}"
            self.rejected.append((str(path), 0, fault))
        for line, name, label in rows:
            fault = self._describe_fault(name, label)
            if fault:
                self.rejected.append((str(path), line, f"{fault}: {name} {label}"))
                continue
            self._seen.add(name)
            self._rows.append((split, name, int(label)))

    def _describe_fault(self, name: str, label: str) -> str:
        """Return the first fault of a row, "" for a usable one."""
        fault = describe_row_fault(name, label)
        if fault:
            return fault
        if not label.isdecimal() or int(label) >= self.published.classes:
            return f"the class number must be 0 to {self.published.classes - 1}"
        if name in self._seen:
            return "the path is already listed"
        if not exists(self.root / name):
            return "the file does not exist"
        folder = folder_to_class_name(name.rpartition("/")[0])
        if folder and self._labels.setdefault(folder, int(label)) != int(label):
            return "the folder belongs to another class"
        return ""


def folder_to_class_name(folder: str) -> str:
    """Return the class name of a folder in a list, whose first part is the split.

    Parts of a single letter are left out: Places365 sorts its classes into such
    folders.

    Example:
        >>> folder_to_class_name("data_256/a/apartment/outdoor")
        'apartment-outdoor'
    """
    parts = folder.split("/")[1:]
    return "-".join(name for name in parts if len(name) > 1 or name.isdecimal())
