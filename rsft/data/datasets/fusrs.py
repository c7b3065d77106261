"""FUSRS v2: the classes of the MetaPEFT paper for FUSAR-Ship and SRSDD, and the authors' lists.

Tian et al. 2025, "Meta-Learning Hyperparameters for Parameter Efficient Fine-Tuning", CVPR;
https://github.com/doem97/metalora and https://huggingface.co/datasets/doem1997/rs_lt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rsft.data.datasets._text import read_numbered_lines
from rsft.errors import DataError, RequestError
from rsft.types import Progress, Rejection
from rsft.utils.download import download

FUSAR_CLASSES = {"Cargo": "cargo", "Fishing": "fishing", "Tanker": "tanker", "Dredger": "dredger"}
SRSDD_CLASSES = {
    "Cell-Container": "cargo",
    "Container": "cargo",
    "Fishing": "fishing",
    "ore-oil": "tanker",
    "Dredger": "dredger",
}
"""Class of each archive category in the clean protocol."""

FUSAR_OTHER = (
    "DiveVessel",
    "HighSpeedCraft",
    "LawEnforce",
    "Other",
    "Passenger",
    "PortTender",
    "SAR",
    "Tug",
    "WingInGrnd",
)
SRSDD_OTHER = ("LawEnforce",)
"""Categories of the class "other" among five classes. Reserved and Unspecified could be any ship and have no class."""

FUSAR_TO_FUSRS = FUSAR_CLASSES | dict.fromkeys(FUSAR_OTHER, "other")
SRSDD_TO_FUSRS = SRSDD_CLASSES | dict.fromkeys(SRSDD_OTHER, "other")
"""Class of each archive category among five classes."""

CLASSES = {
    4: ("cargo", "fishing", "tanker", "dredger"),
    5: ("cargo", "other", "fishing", "tanker", "dredger"),
}
"""Class names in the order of the labels in the lists, by number of classes."""
HEAD_CLASSES, TAIL_CLASSES = ("cargo", "other", "fishing"), ("tanker", "dredger")
"""The groups of the paper; they do not follow from the counts, and no class is medium."""

LIST_VERSIONS = {4: "v25", 5: "v17"}
"""File name prefix of the authors' lists, by number of classes."""
LIST_CHECKSUMS = {
    "v25_train.txt": "389861c95ba73b2cc0a69939df36b9e2e2b15a531cb117cc03237e3634324f33",
    "v25_test.txt": "e52ec89034dd15d637298a54cbeb71e227dcef85bd517bb9bf3ae7073efa7c3b",
    "v17_train.txt": "b39313a1501c752393e929f6fd6921993ef9c7fcde5775ba75412891b544c3f6",
    "v17_test.txt": "f12963026564aa1ddfc3e8ac2e423b278cc14418a2cf6b6bef38ae1dda58a790",
}
"""SHA-256 of the four published files."""
LIST_URL = "https://huggingface.co/datasets/doem1997/rs_lt/resolve/main/{name}"

REPEATED_ROW_FLAG = "repeated-row"
"""Flag of a chip whose name occurred before in the same list."""

_NAME = re.compile(r"Ship_C(?P<category>\d+)S\d+N\d+|L(?P<image>\d+)_\d+", re.ASCII)


@dataclass(frozen=True)
class FUSRSListRow:
    """A row `name label` of a list.

    Attributes:
        name: file name without suffix.
        label: class index, from 0.
        split: train or test.
        file: the list.
        line: line number in the list, from 1.
    """

    name: str
    label: int
    split: str
    file: Path
    line: int

    @property
    def image(self) -> int | None:
        """Number of the SRSDD image in the name L<image>_<k>; None for another name."""
        match = _NAME.fullmatch(self.name)
        return int(match["image"]) if match and match["image"] else None

    @property
    def category(self) -> int | None:
        """FUSAR-Ship category in the name Ship_CxxSyyNzzzz, from 1; None for another name."""
        match = _NAME.fullmatch(self.name)
        return int(match["category"]) if match and match["category"] else None


def read_fusrs_list(path: Path, split: str, classes: int) -> tuple[list[FUSRSListRow], list[Rejection]]:
    """Read one list.

    Args:
        path: the list.
        split: train or test.
        classes: number of classes; labels must be smaller.

    Returns:
        The rows in file order, including repeated ones, and the rows that cannot be parsed.

    Raises:
        DataError: the file cannot be read.
    """
    rows: list[FUSRSListRow] = []
    rejected: list[Rejection] = []
    for number, line in read_numbered_lines(path):
        fields = line.split()
        if len(fields) != 2:
            rejected.append((str(path), number, f"{len(fields)} fields; a row is `name label`"))
        elif _NAME.fullmatch(Path(fields[0]).stem) is None:
            rejected.append((str(path), number, f"{fields[0]} is neither Ship_CxxSyyNzzzz nor L<image>_<k>"))
        elif not (fields[1].isascii() and fields[1].isdecimal() and int(fields[1]) < classes):
            rejected.append((str(path), number, f"label {fields[1]}; labels are 0 to {classes - 1}"))
        else:
            rows.append(FUSRSListRow(Path(fields[0]).stem, int(fields[1]), split, path, number))
    return rows, rejected


def read_fusrs_lists(folder: Path, classes: int) -> tuple[list[FUSRSListRow], list[Rejection]]:
    """Read the training list and the test list.

    Args:
        folder: folder of the lists.
        classes: number of classes, 4 or 5.

    Returns:
        The training rows followed by the test rows, and the rows that cannot be parsed.

    Raises:
        RequestError: a list is missing.
        DataError: a list cannot be read or has no usable row.
    """
    rows: list[FUSRSListRow] = []
    rejected: list[Rejection] = []
    for split in ("train", "test"):
        path = folder / f"{LIST_VERSIONS[classes]}_{split}.txt"
        if not path.is_file():
            raise RequestError(f"{path.name} is missing", folder, "give the folder of the authors' lists")
        list_rows, faults = read_fusrs_list(path, split, classes)
        if not list_rows:
            reason = f"line {faults[0][1]}: {faults[0][2]}" if faults else "the file is empty"
            raise DataError("no row of the list can be used", path, reason)
        rows, rejected = rows + list_rows, rejected + faults
    return rows, rejected


def download_fusrs_lists(folder: Path, classes: int, progress: Progress | None = None) -> Path:
    """Download the training list and the test list unless they exist.

    Args:
        folder: destination folder.
        classes: number of classes, 4 or 5.
        progress: called after each block.

    Returns:
        The folder.

    Raises:
        DataError: a list cannot be downloaded or differs from the published one; the hint says where to find it.
    """
    for name in (f"{LIST_VERSIONS[classes]}_{split}.txt" for split in ("train", "test")):
        download(LIST_URL.format(name=name), folder / name, LIST_CHECKSUMS[name], progress=progress)
    return folder
