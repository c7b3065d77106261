"""Natural images by list files: Places-LT and iNaturalist 2018, long-tailed as they are.

A row of a list is `relative/path label`. Places-LT: Liu et al. 2019, "Large-scale long-tailed recognition in an open
world". iNaturalist 2018: Van Horn et al. 2018; lists by Kang et al. 2020, "Decoupling representation and classifier".
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.figure import Figure
from torchgeo.datasets import NonGeoDataset

from rsft.data.datasets._plotting import plot_image, to_image_tensor
from rsft.data.datasets._text import read_numbered_lines
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError
from rsft.types import Rejection


@dataclass(frozen=True)
class PublishedLists:
    """What is published: the name of each split's list, the number of its rows, and the number of classes."""

    title: str
    lists: Mapping[str, str]
    rows: Mapping[str, int]
    classes: int


class ListFileDataset(NonGeoDataset):
    """The images that the lists in `lists` (default: `root`) name, relative to `root`.

    Attributes:
        table: split, path, label (int) and class of every image that is there, in the order of the lists.
        classes: by label: the folder of its images, as `folder_class` names it, or its number.
        differences: from what is published.
        rejected: rows that cannot be used: file, line, reason.

    Raises:
        RequestError: no folder, no list of training images, or none of the images in the folder.
        DataError: a list that is no text.
    """

    published: ClassVar[PublishedLists]

    def __init__(
        self,
        root: Path,
        lists: Path | None = None,
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        if not root.is_dir():
            raise RequestError("there is no such folder", root, f"name the folder that holds {self.published.title}")
        self.root, self.lists, self.transforms = root, root if lists is None else lists, transforms
        rows = self._read()
        self.differences = self._compare(rows)
        self.classes, owners = _class_names(rows, self.published.classes)
        faults = self._faults(rows, owners)
        faulty = rows[faults != ""]
        files = faulty["split"].map({split: str(self._list(split)) for split in self.published.lists})
        self.rejected: list[Rejection] = list(zip(files, faulty["line"], faults[faults != ""], strict=True))
        good = rows[faults == ""].reset_index(drop=True)
        if good.empty:
            first = f"the first one would be {root / rows['path'].iloc[0]}" if len(rows) else "the lists are empty"
            raise RequestError(f"none of the images of {self.published.title} is in the folder", root, first)
        names = good["label"].map(dict(enumerate(self.classes)))
        self.table = good[["split", "path"]].assign(label=good["label"].astype("int32"), **{"class": names})

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """image: (3, H, W) float32 in the file's own numbers; label: index into `classes`.

        Raises:
            DataError: the file is no whole image.
        """
        row = self.table.iloc[index]
        sample = {
            "image": to_image_tensor(read_chip(self.root / row["path"])),
            "label": torch.tensor(int(row["label"])),
        }
        return sample if self.transforms is None else self.transforms(sample)

    def plot(self, sample: dict[str, Any]) -> Figure:
        """The image and its class."""
        return plot_image(sample["image"], self.classes[int(sample["label"])])

    def _list(self, split: str) -> Path:
        return self.lists / self.published.lists[split]

    def _read(self) -> pd.DataFrame:
        """split, line, path, its folder, label as written (text) and as a number, -1 for none, of every row."""
        if not self._list("train").is_file():
            raise RequestError(
                f"there is no {self.published.lists['train']}", self.lists, "name the folder of the lists with --lists"
            )
        tables = []
        for split in self.published.lists:
            if self._list(split).is_file():
                rows = pd.DataFrame(read_list_rows(self._list(split)), columns=["line", "path", "text"])
                tables.append(rows.assign(split=split))
        table = pd.concat(tables, ignore_index=True)
        label = table["text"].where(table["text"].str.fullmatch(r"[0-9]{1,9}"), "-1").astype("int64")
        return table.assign(label=label, folder=table["path"].map(os.path.dirname))

    def _compare(self, rows: pd.DataFrame) -> list[str]:
        found = rows["split"].value_counts()
        differences = [
            f"rows of {self.published.lists[split]}: {found.get(split, 0):,}; published: {published:,}"
            for split, published in self.published.rows.items()
            if found.get(split, 0) != published
        ]
        train = rows[(rows["split"] == "train") & rows["label"].between(0, self.published.classes - 1)]
        count = train["label"].nunique()
        if count != self.published.classes:
            differences.append(f"classes with a training row: {count:,}; published: {self.published.classes:,}")
        return differences

    def _faults(self, rows: pd.DataFrame, owners: Mapping[str, int]) -> pd.Series[str]:
        """The first fault of each row, or nothing."""
        owner = rows["folder"].map(
            {folder: owners.get(folder_to_class_name(folder)) for folder in rows["folder"].unique()}
        )
        allowed = f"a class number is 0 to {self.published.classes - 1}"
        checks = {
            "a row is `path label`": rows["path"] == "",
            allowed: ~rows["label"].between(0, self.published.classes - 1),
            "the path leaves the folder": rows["path"].map(_leaves).astype(bool),
            "there is no such file": ~_present(self.root, rows),
            "its folder is that of another class": owner.notna() & (owner != rows["label"]),
            "it is listed already": rows["path"].duplicated(),
        }
        faults = pd.Series("", rows.index)
        for reason, found in reversed(checks.items()):
            faults = faults.mask(found, reason)
        return faults.where(faults == "", faults + ": " + rows["path"] + " " + rows["text"])


class PlacesLT(ListFileDataset):
    """Places-LT: scenes, 62,500 training images, 365 classes of 5 to 4,980."""

    facts = PublishedLists(
        "Places-LT",
        {"train": "Places_LT_train.txt", "val": "Places_LT_val.txt", "test": "Places_LT_test.txt"},
        {"train": 62_500, "val": 7_300, "test": 36_500},
        365,
    )


class INaturalist2018(ListFileDataset):
    """iNaturalist 2018: 437,513 training images, 8,142 species of 2 to 1,000; no test set has labels."""

    facts = PublishedLists(
        "iNaturalist 2018",
        {"train": "iNaturalist18_train.txt", "val": "iNaturalist18_val.txt"},
        {"train": 437_513, "val": 24_426},
        8_142,
    )


def read_list_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    r"""Line number, path and label of each row `path label`; \ becomes /, and a row of one word has no path.

    Raises:
        DataError: the file is no text.
    """
    for number, line in read_numbered_lines(path):
        name, _, label = line.rpartition("\t" if "\t" in line else " ")
        name = name.strip().replace("\\", "/")
        yield number, os.path.normpath(name).removeprefix("./") if name else "", label


def describe_row_error(relative: str, label: str) -> str:
    """Why a row cannot be used, or nothing: a class becomes a folder, and no path may leave the root."""
    if not relative:
        return "a row is `path label`"
    if _leaves(relative):
        return f"{relative} leaves the folder"
    if label.startswith("-") and label[1:].isdecimal():
        return f"label {label}: a class number is 0 or more"
    if label in (".", "..") or "/" in label or "\\" in label:
        return f"label {label} cannot name a class"
    return ""


def folder_to_class_name(folder: str) -> str:
    """The class that a folder in a list stands for: `data_256/a/apartment/outdoor` -> apartment-outdoor.

    The first name is that of the split, and one of a single letter (Places365 sorts by them) is left out.
    """
    return "-".join(name for name in folder.split("/")[1:] if len(name) > 1 or name.isdecimal())


def _class_names(rows: pd.DataFrame, count: int) -> tuple[list[str], dict[str, int]]:
    """What each class is called, and which class each folder belongs to: most rows of the training list decide."""
    train = rows[(rows["split"] == "train") & rows["label"].between(0, count - 1)]
    pairs = Counter(zip(train["label"], train["folder"], strict=True))
    names: dict[int, str] = {}
    owners: dict[str, int] = {}
    for (label, folder), _ in pairs.most_common():
        name = folder_to_class_name(folder)
        if name and label not in names and name not in owners:
            names[label], owners[name] = name, label
    return [names.get(label, f"class-{label}") for label in range(count)], owners


def _leaves(path: str) -> bool:
    return path.startswith(("/", "../"))


def _present(root: Path, rows: pd.DataFrame) -> pd.Series[bool]:
    """Which files are there; a folder is listed once, as half a million questions are slow on a network disk."""
    listed = {folder: _names(root / folder) for folder in rows["folder"].unique()}
    names = (path.rpartition("/")[2] for path in rows["path"])
    there = [name in listed[folder] for name, folder in zip(names, rows["folder"], strict=True)]
    return pd.Series(there, rows.index, dtype=bool)


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in os.scandir(folder) if entry.is_file()} if folder.is_dir() else set()
