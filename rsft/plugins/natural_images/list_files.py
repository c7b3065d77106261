"""Images in published list files with rows `path label`. This module needs no torch."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rsft.data.chips.manifest import SPLITS
from rsft.data.datasets.archive_search import PublishedArchive
from rsft.data.datasets.formats.label_rows import OUTSIDE, exists, read_list_rows
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


_NUMBER = re.compile("[0-9]{1,9}")


class _Row(NamedTuple):
    """A row of a list; `label` is that of `text`, -1 if it is no number of a class."""

    split: str
    line: int
    path: str
    text: str
    label: int


class ListFiles:
    """The images in the list files of a data set.

    Args:
        published: the published lists.
        root: the folder of the lists, and that their paths are relative to.

    Attributes:
        images: split, path and class of every existing image, in the order of the
            lists.
        classes: class names in the order of the labels: the folder of the images, see
            `folder_to_class_name`, otherwise the number of the label.
        differences: differences between the lists and the published ones.
        rejected: rows that cannot be used.

    Raises:
        RequestError: the folder, the training list or all of the images are missing.
        DataError: a list is not a text file.
    """

    def __init__(self, published: PublishedLists, root: Path) -> None:
        if not root.is_dir():
            raise RequestError(
                "the folder does not exist",
                root,
                f"give the folder of {published.title}",
            )
        self.published = published
        self.root = root
        self.images: list[tuple[str, str, str]] = []
        self.rejected: list[Rejection] = []
        self._names: dict[str, set[str]] = {}
        rows = self._read_lists()
        train = [row for row in rows if row.split == "train" and row.label >= 0]
        self.classes, labels = _name_classes(train, published.classes)
        self.differences = self._compare_with_published(rows, train)
        seen = set()
        for row in rows:
            fault = self._describe_fault(row, labels)
            if not fault and row.path in seen:
                fault = "the path is already listed"
            if fault:
                file = str(self._list_path(row.split))
                self.rejected.append(
                    (file, row.line, f"{fault}: {row.path} {row.text}")
                )
            else:
                seen.add(row.path)
                self.images.append((row.split, row.path, self.classes[row.label]))
        if not self.images:
            first = "it is empty"
            if rows:
                first = f"the first row needs {root / rows[0].path}"
            raise RequestError(
                f"none of the images of {published.title} is in the folder",
                root,
                f"see {self._list_path('train')}: {first}",
            )

    def _list_path(self, split: str) -> Path:
        return self.root / self.published.lists[split]

    def _read_lists(self) -> list[_Row]:
        train = self._list_path("train")
        if not train.is_file():
            raise RequestError(
                f"{train.name} is missing",
                self.root,
                "copy the lists into the folder",
            )
        rows = []
        for split in self.published.lists:
            path = self._list_path(split)
            for line, name, text in read_list_rows(path) if path.is_file() else ():
                label = int(text) if _NUMBER.fullmatch(text) else -1
                if label >= self.published.classes:
                    label = -1
                rows.append(_Row(split, line, name, text, label))
        return rows

    def _compare_with_published(
        self, rows: Sequence[_Row], train: Sequence[_Row]
    ) -> list[str]:
        counts = Counter(row.split for row in rows)
        numbers = {}
        for split, name in self.published.lists.items():
            numbers[f"rows of {name}"] = counts[split], self.published.rows[split]
        classes = len({row.label for row in train})
        numbers["classes with a training row"] = classes, self.published.classes
        return [
            f"{what}: {count:,}; published: {expected:,}"
            for what, (count, expected) in numbers.items()
            if count != expected
        ]

    def _describe_fault(self, row: _Row, labels: Mapping[str, int]) -> str:
        """Return the first fault of a row, "" for a usable one."""
        folder, _, name = row.path.rpartition("/")
        if not row.path:
            return "a row is `path label`"
        if row.label < 0:
            return f"the class number must be 0 to {self.published.classes - 1}"
        if row.path.startswith(OUTSIDE):
            return "the path leaves the folder"
        if name not in self._names_in(folder):
            return "the file does not exist"
        if labels.get(folder_to_class_name(folder), row.label) != row.label:
            return "the folder belongs to another class"
        return ""

    def _names_in(self, folder: str) -> set[str]:
        """Return the names of the files in a folder, which is listed once.

        Half a million `stat` calls are slow on a network disk.
        """
        if folder not in self._names:
            path = self.root / folder
            names = set()
            if exists(path, Path.is_dir):
                names = {entry.name for entry in os.scandir(path) if entry.is_file()}
            self._names[folder] = names
        return self._names[folder]


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


def _name_classes(
    train: Iterable[_Row], count: int
) -> tuple[list[str], dict[str, int]]:
    """Name the classes by the folders of most of their rows in the training list.

    Returns:
        The names in the order of the labels, and the label of each name.
    """
    pairs = Counter((row.label, row.path.rpartition("/")[0]) for row in train)
    names: dict[int, str] = {}
    labels: dict[str, int] = {}
    for (label, folder), _ in pairs.most_common():
        name = folder_to_class_name(folder)
        if name and label not in names and name not in labels:
            names[label] = name
            labels[name] = label
    return [names.get(label, f"class-{label}") for label in range(count)], labels
