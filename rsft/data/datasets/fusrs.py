"""FUSRS v2: the classes that the MetaPEFT paper makes of FUSAR-Ship and SRSDD, and the authors' lists.

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
"""The clean mapping: the archives' own categories."""

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
"""What the clean mapping calls other where there are five classes; of Reserved and Unspecified nobody knows."""

CLASSES = {
    4: ("cargo", "fishing", "tanker", "dredger"),
    5: ("cargo", "other", "fishing", "tanker", "dredger"),
}
"""In the order of the labels in the lists."""
HEAD_CLASSES, TAIL_CLASSES = ("cargo", "other", "fishing"), ("tanker", "dredger")
"""As the paper has the groups, whatever the counts; none is medium."""

LIST_VERSIONS = {4: "v25", 5: "v17"}
"""What the authors' lists of so many classes are called."""
LIST_CHECKSUMS = {
    "v25_train.txt": "389861c95ba73b2cc0a69939df36b9e2e2b15a531cb117cc03237e3634324f33",
    "v25_test.txt": "e52ec89034dd15d637298a54cbeb71e227dcef85bd517bb9bf3ae7073efa7c3b",
    "v17_train.txt": "b39313a1501c752393e929f6fd6921993ef9c7fcde5775ba75412891b544c3f6",
    "v17_test.txt": "f12963026564aa1ddfc3e8ac2e423b278cc14418a2cf6b6bef38ae1dda58a790",
}
"""SHA-256 of the four files as published."""
LIST_URL = "https://huggingface.co/datasets/doem1997/rs_lt/resolve/main/{name}"

REPEATED_ROW_FLAG = "repeated-row"
"""Flag of a chip that a list names again in its split."""

_NAME = re.compile(r"Ship_C(?P<category>\d+)S\d+N\d+|L(?P<image>\d+)_\d+", re.ASCII)


@dataclass(frozen=True)
class FUSRSListRow:
    """A row `name label` of a list.

    Attributes:
        name: without its suffix.
        label: from 0.
        line: of the file, from 1.
    """

    name: str
    label: int
    split: str
    file: Path
    line: int

    @property
    def image(self) -> int | None:
        """The SRSDD image that L<image>_<k> was cut from."""
        match = _NAME.fullmatch(self.name)
        return int(match["image"]) if match and match["image"] else None

    @property
    def category(self) -> int | None:
        """The FUSAR-Ship category in Ship_CxxSyyNzzzz, from 1."""
        match = _NAME.fullmatch(self.name)
        return int(match["category"]) if match and match["category"] else None


def read_fusrs_list(path: Path, split: str, classes: int) -> tuple[list[FUSRSListRow], list[Rejection]]:
    """The rows of a list in file order, repeated ones too, and those that are none.

    Raises:
        DataError: the file cannot be read.
    """
    rows: list[FUSRSListRow] = []
    rejected: list[Rejection] = []
    for number, line in read_numbered_lines(path):
        fields = line.split()
        if len(fields) != 2:
            rejected.append((str(path), number, f"{len(fields)} fields, where a row is `name label`"))
        elif _NAME.fullmatch(Path(fields[0]).stem) is None:
            rejected.append((str(path), number, f"{fields[0]} is neither Ship_CxxSyyNzzzz nor L<image>_<k>"))
        elif not (fields[1].isascii() and fields[1].isdecimal() and int(fields[1]) < classes):
            rejected.append((str(path), number, f"label {fields[1]}, where they go from 0 to {classes - 1}"))
        else:
            rows.append(FUSRSListRow(Path(fields[0]).stem, int(fields[1]), split, path, number))
    return rows, rejected


def read_fusrs_lists(folder: Path, classes: int) -> tuple[list[FUSRSListRow], list[Rejection]]:
    """Both lists of so many classes in `folder`: the training rows, then the test rows.

    Raises:
        RequestError: one of them is not there.
        DataError: one cannot be read or has no row that can be used.
    """
    rows: list[FUSRSListRow] = []
    rejected: list[Rejection] = []
    for split in ("train", "test"):
        path = folder / f"{LIST_VERSIONS[classes]}_{split}.txt"
        if not path.is_file():
            raise RequestError(f"there is no {path.name}", folder, "name the folder of the authors' lists")
        found, faulty = read_fusrs_list(path, split, classes)
        if not found:
            reason = f"line {faulty[0][1]}: {faulty[0][2]}" if faulty else "the file is empty"
            raise DataError("the list has no row that can be used", path, reason)
        rows, rejected = rows + found, rejected + faulty
    return rows, rejected


def download_fusrs_lists(folder: Path, classes: int, progress: Progress | None = None) -> Path:
    """Download both lists of so many classes into `folder`, unless they are there.

    Raises:
        DataError: they cannot be fetched, or differ from those published; the message says what to fetch by hand.
    """
    for name in (f"{LIST_VERSIONS[classes]}_{split}.txt" for split in ("train", "test")):
        download(LIST_URL.format(name=name), folder / name, LIST_CHECKSUMS[name], progress=progress)
    return folder
