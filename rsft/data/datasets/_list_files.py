"""The rows of the list files of a data set, checked against its images."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rsft.data.datasets._text import leaves_root, read_list_rows
from rsft.errors import RequestError
from rsft.types import Rejection


@dataclass(frozen=True)
class PublishedLists:
    """Names and sizes of the published lists of a data set.

    Attributes:
        title: name of the data set.
        lists: file name of each split's list.
        rows: number of rows of each split's list.
        classes: number of classes.
    """

    title: str
    lists: Mapping[str, str]
    rows: Mapping[str, int]
    classes: int


PLACES_LT = PublishedLists(
    "Places-LT",
    {"train": "Places_LT_train.txt", "val": "Places_LT_val.txt", "test": "Places_LT_test.txt"},
    {"train": 62_500, "val": 7_300, "test": 36_500},
    365,
)
INATURALIST_2018 = PublishedLists(
    "iNaturalist 2018",
    {"train": "iNaturalist18_train.txt", "val": "iNaturalist18_val.txt"},
    {"train": 437_513, "val": 24_426},
    8_142,
)


class ListFiles:
    """The images in the list files of a data set.

    Args:
        published: what is known of the published lists.
        root: the folder that the paths in the lists are relative to.
        lists: the folder of the lists; by default `root`.

    Attributes:
        table: split, path, label (integer) and class of every existing image, in the order of the lists.
        classes: class names in the order of the labels: the folder of the images, see `folder_to_class_name`, otherwise
            the number of the label.
        differences: differences between the lists and the published ones.
        rejected: rows that cannot be used.

    Raises:
        RequestError: the folder, the training list or all of the images are missing.
        DataError: a list is not a text file.
    """

    def __init__(self, published: PublishedLists, root: Path, lists: Path | None = None) -> None:
        if not root.is_dir():
            raise RequestError("the folder does not exist", root, f"give the folder of {published.title}")
        self.published, self.root, self.lists = published, root, root if lists is None else lists
        rows = self._read_lists()
        self.differences = self._compare_with_published(rows)
        self.classes, folder_labels = _class_names(rows, published.classes)
        faults = self._find_faults(rows, folder_labels)
        faulty = rows[faults != ""]
        files = faulty["split"].map({split: str(self._list_path(split)) for split in published.lists})
        self.rejected: list[Rejection] = list(zip(files, faulty["line"], faults[faults != ""], strict=True))
        usable = rows[faults == ""].reset_index(drop=True)
        if usable.empty:
            first = f"the first list row needs {root / rows['path'].iloc[0]}" if len(rows) else "the lists are empty"
            raise RequestError(f"none of the images of {published.title} is in the folder", root, first)
        names = usable["label"].map(dict(enumerate(self.classes)))
        self.table = usable[["split", "path"]].assign(label=usable["label"].astype("int32"), **{"class": names})

    def _list_path(self, split: str) -> Path:
        return self.lists / self.published.lists[split]

    def _read_lists(self) -> pd.DataFrame:
        """Return split, line, path, folder, text (the label as written) and label (-1 if not a number) of every row."""
        if not self._list_path("train").is_file():
            raise RequestError(
                f"{self.published.lists['train']} is missing", self.lists, "give the folder of the lists with --lists"
            )
        tables = []
        for split in self.published.lists:
            if self._list_path(split).is_file():
                rows = pd.DataFrame(read_list_rows(self._list_path(split)), columns=["line", "path", "text"])
                tables.append(rows.assign(split=split))
        table = pd.concat(tables, ignore_index=True)
        label = table["text"].where(table["text"].str.fullmatch(r"[0-9]{1,9}"), "-1").astype("int64")
        return table.assign(label=label, folder=table["path"].map(os.path.dirname))

    def _compare_with_published(self, rows: pd.DataFrame) -> list[str]:
        counts = rows["split"].value_counts()
        differences = [
            f"rows of {self.published.lists[split]}: {counts.get(split, 0):,}; published: {published:,}"
            for split, published in self.published.rows.items()
            if counts.get(split, 0) != published
        ]
        train = rows[(rows["split"] == "train") & rows["label"].between(0, self.published.classes - 1)]
        count = train["label"].nunique()
        if count != self.published.classes:
            differences.append(f"classes with a training row: {count:,}; published: {self.published.classes:,}")
        return differences

    def _find_faults(self, rows: pd.DataFrame, folder_labels: Mapping[str, int]) -> pd.Series[str]:
        """Return the first fault of each row, "" for a usable row."""
        label_of = {folder: folder_labels.get(folder_to_class_name(folder)) for folder in rows["folder"].unique()}
        folder_label = rows["folder"].map(label_of)
        allowed = f"the class number must be 0 to {self.published.classes - 1}"
        checks = {
            "a row is `path label`": rows["path"] == "",
            allowed: ~rows["label"].between(0, self.published.classes - 1),
            "the path leaves the folder": rows["path"].map(leaves_root).astype(bool),
            "the file does not exist": ~_file_exists(self.root, rows),
            "the folder belongs to another class": folder_label.notna() & (folder_label != rows["label"]),
            "the path is already listed": rows["path"].duplicated(),
        }
        faults = pd.Series("", rows.index)
        for reason, is_faulty in reversed(checks.items()):
            faults = faults.mask(is_faulty, reason)
        return faults.where(faults == "", faults + ": " + rows["path"] + " " + rows["text"])


def folder_to_class_name(folder: str) -> str:
    """Return the class name of a folder in a list.

    Args:
        folder: path of the folder. Its first part is the split. Parts of a single letter are left out: Places365 sorts
            its classes into such folders.

    Example:
        >>> folder_to_class_name("data_256/a/apartment/outdoor")
        'apartment-outdoor'
    """
    return "-".join(name for name in folder.split("/")[1:] if len(name) > 1 or name.isdecimal())


def _class_names(rows: pd.DataFrame, count: int) -> tuple[list[str], dict[str, int]]:
    """Name the classes after their folders, by the majority of the rows in the training list.

    Returns:
        The name of each class, and the label of each folder by its class name.
    """
    train = rows[(rows["split"] == "train") & rows["label"].between(0, count - 1)]
    pairs = Counter(zip(train["label"], train["folder"], strict=True))
    names: dict[int, str] = {}
    labels: dict[str, int] = {}
    for (label, folder), _ in pairs.most_common():
        name = folder_to_class_name(folder)
        if name and label not in names and name not in labels:
            names[label], labels[name] = name, label
    return [names.get(label, f"class-{label}") for label in range(count)], labels


def _file_exists(root: Path, rows: pd.DataFrame) -> pd.Series[bool]:
    """Return whether the file of each row exists.

    Each folder is listed once, because half a million `stat` calls are slow on a network disk.
    """
    names_in = {folder: _file_names(root / folder) for folder in rows["folder"].unique()}
    names = (path.rpartition("/")[2] for path in rows["path"])
    exists = [name in names_in[folder] for name, folder in zip(names, rows["folder"], strict=True)]
    return pd.Series(exists, rows.index, dtype=bool)


def _file_names(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in os.scandir(folder) if entry.is_file()} if folder.is_dir() else set()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return set()
        raise
