"""Images in published list files with rows `path label`. This module needs no torch."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rsft.data.chips.store import SPLITS
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


class ListFiles:
    """The images in the list files of a data set.

    Args:
        published: the published lists.
        root: the folder of the lists, and that their paths are relative to.

    Attributes:
        table: split, path, label (integer) and class of every existing image, in the
            order of the lists.
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
        rows = self._read_lists()
        is_class = rows["label"].between(0, published.classes - 1)
        train = rows[(rows["split"] == "train") & is_class]
        self.classes, labels = _name_classes(train, published.classes)
        faults = self._find_faults(rows, is_class, labels)
        faulty = rows[faults != ""]
        files = [str(self._list_path(split)) for split in faulty["split"]]
        self.rejected: list[Rejection] = list(
            zip(files, faulty["line"], faults[faults != ""], strict=True)
        )
        self.differences = self._compare_with_published(rows, train)
        usable = rows[faults == ""].reset_index(drop=True)
        if usable.empty:
            first = "it is empty"
            if len(rows):
                first = f"the first row needs {root / rows['path'].iloc[0]}"
            raise RequestError(
                f"none of the images of {published.title} is in the folder",
                root,
                f"see {self._list_path('train')}: {first}",
            )
        names = usable["label"].map(dict(enumerate(self.classes)))
        self.table = usable[["split", "path"]].assign(
            label=usable["label"].astype("int32"), **{"class": names}
        )

    def _list_path(self, split: str) -> Path:
        return self.root / self.published.lists[split]

    def _read_lists(self) -> pd.DataFrame:
        """Return all rows of the lists.

        Returns:
            Columns split, line, path, folder, text (the label as written) and label (-1
            if it is not a number).
        """
        train = self._list_path("train")
        if not train.is_file():
            raise RequestError(
                f"{train.name} is missing",
                self.root,
                "copy the lists into the folder",
            )
        rows = list[tuple[str, int, str, str]]()
        for split in self.published.lists:
            path = self._list_path(split)
            if path.is_file():
                rows += [(split, *row) for row in read_list_rows(path)]
        table = pd.DataFrame(rows, columns=["split", "line", "path", "text"])
        is_number = table["text"].str.fullmatch(r"[0-9]{1,9}").astype(bool)
        label = table["text"].where(is_number, "-1").astype("int64")
        return table.assign(label=label, folder=table["path"].map(os.path.dirname))

    def _compare_with_published(
        self, rows: pd.DataFrame, train: pd.DataFrame
    ) -> list[str]:
        differences = []
        counts = rows["split"].value_counts()
        for split, expected in self.published.rows.items():
            count = counts.get(split, 0)
            if count != expected:
                name = self.published.lists[split]
                differences.append(
                    f"rows of {name}: {count:,}; published: {expected:,}"
                )
        count = train["label"].nunique()
        expected = self.published.classes
        if count != expected:
            differences.append(
                f"classes with a training row: {count:,}; published: {expected:,}"
            )
        return differences

    def _find_faults(
        self, rows: pd.DataFrame, is_class: pd.Series[bool], labels: Mapping[str, int]
    ) -> pd.Series[str]:
        """Return the first fault of each row, "" for a usable row."""
        folders = rows["folder"].unique()
        names = {folder: folder_to_class_name(folder) for folder in folders}
        folder_label = rows["folder"].map(names).map(labels)
        # list each folder once, because half a million `stat` calls are slow on a
        # network disk
        files = set()
        for folder in folders:
            if exists(self.root / folder, Path.is_dir):
                for entry in os.scandir(self.root / folder):
                    if entry.is_file():
                        files.add(posixpath.join(folder, entry.name))
        has_other_label = folder_label.notna() & (folder_label != rows["label"])
        checks = {
            "a row is `path label`": rows["path"] == "",
            f"the class number must be 0 to {self.published.classes - 1}": ~is_class,
            "the path leaves the folder": rows["path"].str.startswith(OUTSIDE),
            "the file does not exist": ~rows["path"].isin(files),
            "the folder belongs to another class": has_other_label,
            "the path is already listed": rows["path"].duplicated(),
        }
        faults = pd.Series("", rows.index)
        for reason, is_faulty in reversed(checks.items()):
            faults = faults.mask(is_faulty.astype(bool), reason)
        texts = faults + ": " + rows["path"] + " " + rows["text"]
        return texts.where(faults != "", "")


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


def _name_classes(train: pd.DataFrame, count: int) -> tuple[list[str], dict[str, int]]:
    """Name the classes by the folders of most of their rows in the training list.

    Returns:
        The names in the order of the labels, and the label of each name.
    """
    pairs = Counter(zip(train["label"], train["folder"], strict=True))
    names: dict[int, str] = {}
    labels: dict[str, int] = {}
    for (label, folder), _ in pairs.most_common():
        name = folder_to_class_name(folder)
        if name and label not in names and name not in labels:
            names[label] = name
            labels[name] = label
    return [names.get(label, f"class-{label}") for label in range(count)], labels
