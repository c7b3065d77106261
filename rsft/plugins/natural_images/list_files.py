"""Images in published list files with rows `path label`. This module needs no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rsft.data.chips.store import SPLITS
from rsft.data.datasets.formats.label_rows import OUTSIDE, exists, read_list_rows
from rsft.errors import RequestError
from rsft.types import Rejection


@dataclass(frozen=True)
class PublishedLists:
    """Name of a data set, file name and number of rows of the published list of each split, and number of classes."""

    title: str
    lists: Mapping[str, str]
    rows: Mapping[str, int]
    classes: int


PLACES_LT = PublishedLists(
    title="Places-LT",
    lists={split: f"Places_LT_{split}.txt" for split in SPLITS},
    rows={"train": 62_500, "val": 7_300, "test": 36_500},
    classes=365,
)
INATURALIST_2018 = PublishedLists(
    title="iNaturalist 2018",
    lists={split: f"iNaturalist18_{split}.txt" for split in ("train", "val")},
    rows={"train": 437_513, "val": 24_426},
    classes=8_142,
)


class ListFiles:
    """The images in the list files of a data set, whose paths are relative to `root`; `lists` is their folder.

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

    def __init__(
        self, published: PublishedLists, root: Path, lists: Path | None = None
    ) -> None:
        if not root.is_dir():
            raise RequestError(
                "the folder does not exist",
                root,
                f"give the folder of {published.title}",
            )
        self.published = published
        self.root = root
        self.lists = root if lists is None else lists
        rows = self._read_lists()
        is_class = rows["label"].between(0, published.classes - 1)
        train = rows[(rows["split"] == "train") & is_class]
        self.classes, labels = _class_names(train, published.classes)
        faults = self._find_faults(rows, is_class, labels)
        faulty = rows[faults != ""]
        files = faulty["split"].map(
            {split: str(self._list_path(split)) for split in published.lists}
        )
        self.rejected: list[Rejection] = list(
            zip(files, faulty["line"], faults[faults != ""], strict=True)
        )
        counts = rows["split"].value_counts()
        self.differences = [
            f"rows of {published.lists[split]}: {counts.get(split, 0):,}; published:"
            f" {count:,}"
            for split, count in published.rows.items()
            if counts.get(split, 0) != count
        ]
        count = train["label"].nunique()
        if count != published.classes:
            self.differences.append(
                f"classes with a training row: {count:,}; published:"
                f" {published.classes:,}"
            )
        usable = rows[faults == ""].reset_index(drop=True)
        if usable.empty:
            if len(rows):
                first = f"the first row needs {root / rows['path'].iloc[0]}"
            else:
                first = "it is empty"
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
        return self.lists / self.published.lists[split]

    def _read_lists(self) -> pd.DataFrame:
        """Return split, line, path, folder, text (the label as written) and label (-1 if not a number) of every row."""
        train = self._list_path("train")
        if not train.is_file():
            raise RequestError(
                f"{train.name} is missing",
                self.lists,
                "give the folder of the lists with --lists",
            )
        columns = ["line", "path", "text"]
        tables = [
            pd.DataFrame(
                read_list_rows(self._list_path(split)), columns=columns
            ).assign(split=split)
            for split in self.published.lists
            if self._list_path(split).is_file()
        ]
        table = pd.concat(tables, ignore_index=True)
        label = (
            table["text"]
            .where(table["text"].str.fullmatch(r"[0-9]{1,9}"), "-1")
            .astype("int64")
        )
        return table.assign(label=label, folder=table["path"].map(os.path.dirname))

    def _find_faults(
        self, rows: pd.DataFrame, is_class: pd.Series[bool], labels: Mapping[str, int]
    ) -> pd.Series[str]:
        """Return the first fault of each row, "" for a usable row."""
        folders = {folder: self.root / folder for folder in rows["folder"].unique()}
        folder_label = rows["folder"].map(
            {name: labels.get(folder_to_class_name(name)) for name in folders}
        )
        # list each folder once, because half a million `stat` calls are slow on a
        # network disk
        files = {
            name: {entry.name for entry in os.scandir(folder) if entry.is_file()}
            for name, folder in folders.items()
            if exists(folder, Path.is_dir)
        }
        names = rows["path"].map(os.path.basename)
        is_file = [
            name in files.get(folder, ())
            for name, folder in zip(names, rows["folder"], strict=True)
        ]
        checks = {
            "a row is `path label`": rows["path"] == "",
            f"the class number must be 0 to {self.published.classes - 1}": ~is_class,
            "the path leaves the folder": (
                rows["path"].str.startswith(OUTSIDE).astype(bool)
            ),
            "the file does not exist": ~pd.Series(is_file, rows.index, dtype=bool),
            "the folder belongs to another class": (
                folder_label.notna() & (folder_label != rows["label"])
            ),
            "the path is already listed": rows["path"].duplicated(),
        }
        faults = pd.Series("", rows.index)
        for reason, is_faulty in reversed(checks.items()):
            faults = faults.mask(is_faulty, reason)
        return faults.where(
            faults == "", faults + ": " + rows["path"] + " " + rows["text"]
        )


def folder_to_class_name(folder: str) -> str:
    """Return the class name of a folder in a list, whose first part is the split.

    Parts of a single letter are left out: Places365 sorts its classes into such
    folders.

    Example:
        >>> folder_to_class_name("data_256/a/apartment/outdoor")
        'apartment-outdoor'
    """
    return "-".join(
        name for name in folder.split("/")[1:] if len(name) > 1 or name.isdecimal()
    )


def _class_names(train: pd.DataFrame, count: int) -> tuple[list[str], dict[str, int]]:
    """Return the names of the classes, by the folders of most rows in the training list, and the label of each name."""
    pairs = Counter(zip(train["label"], train["folder"], strict=True))
    names: dict[int, str] = {}
    labels: dict[str, int] = {}
    for (label, folder), _ in pairs.most_common():
        name = folder_to_class_name(folder)
        if name and label not in names and name not in labels:
            names[label] = name
            labels[name] = label
    return [names.get(label, f"class-{label}") for label in range(count)], labels
