"""Labeled image files: class folders, list files with `path label` rows, and CSV tables of paths and classes.

This module imports no torch.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rsft.data.chips.record import (
    describe_rejections,
    describe_verdict_fault,
    parse_verdict,
    resolve_label,
)
from rsft.data.chips.store import SPLITS
from rsft.data.datasets._fusar_files import read_text_lines
from rsft.data.datasets._srsdd_files import SPLIT_FOLDERS
from rsft.data.imagery.reader import IMAGE_SUFFIXES
from rsft.errors import DataError, RequestError
from rsft.types import Rejection
from rsft.utils.operating_system import path_order, walk_files
from rsft.utils.text_tables import read_text_table

MAX_LABEL_BYTES = 250
"""Longest name of a class; names of files have at most 255 bytes, with their suffix."""


def read_numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Return number, from 1, and stripped text of the lines of a UTF-8 file that are not blank; or raise DataError."""
    try:
        return read_text_lines(path)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", path) from error
    except ValueError as error:
        raise DataError(
            "the file is not UTF-8 text", path, "save it as UTF-8"
        ) from error


def read_list_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    r"""Yield line, path and label of the rows `path label`; \ in a path becomes /, and one word has the path ""."""
    for number, line in read_numbered_lines(path):
        name, _, label = line.rpartition("\t" if "\t" in line else " ")
        name = name.strip().replace("\\", "/")
        yield number, os.path.normpath(name).removeprefix("./") if name else "", label


def describe_row_fault(relative: str, label: str) -> str:
    """Return why a row cannot be used, or "": its path must not leave the root, its label must be a folder name."""
    if not relative:
        return "a row is `path label`"
    if relative.startswith(OUTSIDE):
        return f"{relative} leaves the folder"
    if label.startswith("-") and label[1:].isdecimal():
        return f"label {label}: a class number must be 0 or more"
    if any(
        "\ud800" <= letter <= "\udfff" for letter in label
    ):  # bytes of a folder name that are no text
        return "the name of the class folder is not UTF-8 text: rename it"
    if len(os.fsencode(label)) > MAX_LABEL_BYTES:
        return (
            f"label {label[:40]}... has {len(label):,} letters; the limit is"
            f" {MAX_LABEL_BYTES} bytes"
        )
    if label in (".", "..") or "/" in label or "\\" in label:
        return f"label {label} cannot name a class"
    return ""


def exists(path: Path, is_kind: Callable[[Path], bool] = Path.is_file) -> bool:
    """Return whether a file exists; a name that is too long for the file system is the name of no file."""
    try:
        return is_kind(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


_LABEL_FOLDERS = {"labels", "labeltxt", "annotations", "annfiles", "masks"}
"""Names of folders beside images/ with labels of the objects or pixels in these
images."""

OUTSIDE = ("/", "../")
"""Begin of a normalized path that is absolute or leaves its root."""


@dataclass(frozen=True, slots=True)
class LabeledFile:
    """An image file with its class name and its split; a `Path` takes 400 bytes, so a data set has texts."""

    name: str
    label: str
    split: str

    @property
    def path(self) -> Path:
        """Path of the file."""
        return Path(self.name)


class LabeledFiles:
    """The labeled images of a folder, in one of the layouts of `ImageFolderLT`.

    Attributes:
        classes: class names, sorted as in `sort_class_names`.
        files: in the order of the lists, or sorted by path.
        layout: "lists", "split folders" or "class folders".
        skipped: number of empty class folders and of files that are not labeled images,
            by reason.
        rejected: rows of a list, and images of class folders, that cannot be used.

    Raises:
        RequestError: the folder does not exist, contains no labeled image, or contains
            labels of objects in images.
        DataError: a list is not a text file.
    """

    def __init__(self, root: Path) -> None:
        labels = _find_object_labels(root)
        if labels:
            message = (
                f"{labels}, but `path label` lists and class folders have one label per"
                " image"
            )
            raise RequestError(
                message,
                root,
                "cut out the objects: rsft prepare scenes IMAGES --labels LABELS --root"
                " STORE",
            )
        if not root.is_dir():
            if root.exists():
                message = "this is a file, not a folder"
            else:
                message = "the folder does not exist"
            raise RequestError(
                message, root, "give the folder that contains the class folders"
            )
        self.root = root
        self.files: list[LabeledFile] = []
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        self.layout = self._find_files()
        self.skipped = +self.skipped
        if not self.files:
            hint = (
                "give class folders (in train/ and val/, or at the top), or train.txt"
                " with `path label` rows"
            )
            message = f"no labeled image in the folder (read as {self.layout})"
            raise RequestError(
                message, root, describe_rejections(self.rejected) or hint
            )
        self.classes = sort_class_names({file.label for file in self.files})

    def _find_files(self) -> str:
        """Collect the images and return the layout."""
        train = self.root / "train"
        if (self.root / "train.txt").is_file():
            for split in SPLITS:
                if (self.root / f"{split}.txt").is_file():
                    self._read_list(split)
            return "lists"
        if train.is_dir() and any(entry.is_dir() for entry in train.iterdir()):
            # without folders it is a class: CIFAR-100 has one called train
            for folder, split in SPLIT_FOLDERS.items():
                if (self.root / folder).is_dir():
                    self._read_class_folders(self.root / folder, split)
            return "split folders"
        self._read_class_folders(self.root, "train")
        return "class folders"

    def _read_list(self, split: str) -> None:
        path = self.root / f"{split}.txt"
        seen: dict[Path, int] = {}
        for number, relative, label in read_list_rows(path):
            fault = describe_row_fault(relative, label)
            image = next(
                filter(exists, (self.root / relative, self.root / split / relative)),
                None,
            )
            if fault:
                self.rejected.append((str(path), number, fault))
            elif image is None:
                self.rejected.append(
                    (str(path), number, f"the file {relative[:300]} does not exist")
                )
            elif image in seen:
                self.rejected.append(
                    (
                        str(path),
                        number,
                        f"{relative} is already listed in line {seen[image]}",
                    )
                )
            else:
                seen[image] = number
                self.files.append(LabeledFile(str(image), label, split))

    def _read_class_folders(self, folder: Path, split: str) -> None:
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.name.startswith("."):
                before = len(self.files)
                fault = describe_row_fault(entry.name, entry.name)
                for path in map(Path, sorted(walk_files(entry), key=path_order)):
                    if (
                        path.suffix.lower() not in IMAGE_SUFFIXES
                        or path.name.startswith(".")
                    ):
                        self.skipped["not an image by its name"] += 1
                    elif fault:
                        name = (
                            str(path).encode(errors="backslashreplace").decode()
                        )  # whatever bytes it has
                        self.rejected.append((name, 0, fault))
                    else:
                        self.files.append(LabeledFile(str(path), entry.name, split))
                self.skipped["class folder without an image"] += (
                    len(self.files) == before
                )
            elif entry.suffix.lower() in IMAGE_SUFFIXES:
                self.skipped["image outside the class folders"] += 1
            else:
                self.skipped["not an image by its name"] += entry.is_file()


def _find_object_labels(root: Path) -> str:
    """Return in words that a file or folder has labels of objects in images, as of COCO or YOLO; "" if it has none."""
    folders = [
        folder
        for folder in (root, *(root / name for name in (*SPLIT_FOLDERS, "annotations")))
        if folder.is_dir()
    ]
    for path in (
        [root]
        if root.is_file()
        else [file for folder in folders for file in sorted(folder.glob("*.*"))]
    ):
        if path.suffix.lower() in (".json", ".yaml", ".yml") and path.is_file():
            with path.open("rb") as file:
                start = file.read(2**20)
            if path.suffix.lower() == ".json" and (
                b'"file_name"' in start or b'"image_id"' in start
            ):
                return f"{path.name} has annotations of COCO"
            if path.suffix.lower() != ".json" and re.search(
                rb"^(names|nc) *:", start, re.MULTILINE
            ):
                return f"{path.name} describes labels of YOLO"
    for folder in folders:
        names = {
            entry.name.lower(): entry.name
            for entry in folder.iterdir()
            if entry.is_dir()
        }
        if "images" in names and (labels := names.keys() & _LABEL_FOLDERS):
            return (
                f"{folder.name}/ has {names['images']}/ beside {names[min(labels)]}/,"
                " as labels of objects"
            )
    return ""


def sort_class_names(labels: set[str]) -> list[str]:
    """Return class names, sorted by number if all are numbers, else alphabetically."""
    if all(label.isdecimal() for label in labels):
        return sorted(labels, key=int)
    return sorted(labels)


class LabelTable:
    """The images in the rows of a CSV table.

    The columns are `path` (relative to the folder of the table), `class` and optionally
    `split` and `verdict`. Rows without a split belong to the training split. A verdict
    is "class" (or nothing), "not a target" or "unsure"; unsure rows have no label.
    Other columns are ignored.

    Args:
        path: the table.
        not_a_target: class of the rows that are not a target; None leaves them out.

    Attributes:
        files: in the order of the rows.
        classes: class names, sorted as in `sort_class_names`.
        root: the folder that contains all images.

    Raises:
        RequestError: the table cannot be read, lacks a column, or has no usable row.
    """

    def __init__(self, path: Path, not_a_target: str | None = None) -> None:
        self.files: list[LabeledFile] = []
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        seen: dict[Path, int] = {}
        for number, row in _read_table(path).to_dict("index").items():
            image = (path.parent / row["path"]).absolute()
            verdict = parse_verdict(row["class"], row["verdict"])
            split = row["split"].strip() or "train"
            label, reason = resolve_label(verdict, not_a_target)
            if reason:
                self.skipped[reason] += 1
            elif fault := describe_verdict_fault(row["verdict"]) or _describe_fault(
                image, label, split, seen
            ):
                self.rejected.append((str(path), number, fault))
            else:
                seen[image] = number
                self.files.append(LabeledFile(str(image), label, split))
        if not self.files:
            raise RequestError(
                "no row of the table can be used",
                path,
                "; ".join(
                    filter(
                        None,
                        [
                            "each row needs an existing file and a class",
                            *(
                                [
                                    f"{count:,} {reason}"
                                    for reason, count in self.skipped.items()
                                ]
                            ),
                            describe_rejections(self.rejected),
                        ],
                    )
                ),
            )
        self.classes = sort_class_names({file.label for file in self.files})
        self.root = Path(os.path.commonpath([file.path.parent for file in self.files]))


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = read_text_table(path).cells
    except OSError as error:
        raise RequestError(
            f"the table cannot be read: {error}", path, "save it as CSV in UTF-8"
        ) from error
    missing = [name for name in ("path", "class") if name not in table]
    if missing:
        raise RequestError(
            f"the table has no column {', '.join(missing)}",
            path,
            "it needs path and class",
        )
    return table.assign(
        **{name: "" for name in ("split", "verdict") if name not in table}
    )


def _describe_fault(image: Path, label: str, split: str, seen: dict[Path, int]) -> str:
    if not exists(image):
        return f"the file does not exist: {str(image)[:600]}"
    if split not in SPLITS:
        return f"unknown split {split}; it must be train, val or test"
    if image in seen:
        return f"{image.name} is already listed in line {seen[image]}"
    return describe_row_fault(image.name, label)
