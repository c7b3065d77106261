"""Labeled image files of a folder: class folders, or list files with `path label` rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rsft.data.datasets._text import describe_row_fault, is_file, read_list_rows
from rsft.data.imagery.reader import IMAGE_SUFFIXES
from rsft.errors import RequestError
from rsft.types import Rejection

SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Split by folder name."""


@dataclass(frozen=True)
class LabeledFile:
    """An image file with its class name and its split."""

    path: Path
    label: str
    split: str


class LabeledFiles:
    """The labeled images of a folder, in one of the layouts of `ImageFolderLT`.

    Args:
        root: the folder.

    Attributes:
        root: the folder.
        classes: class names, sorted as in `sort_class_names`.
        files: in the order of the lists, or sorted by path.
        layout: "lists", "split folders" or "class folders".
        skipped: number of empty class folders and of files that are not labeled images, by reason.
        rejected: rows of a list, and images of class folders, that cannot be used.

    Raises:
        RequestError: the folder does not exist or contains no labeled image.
        DataError: a list is not a text file.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise RequestError("the folder does not exist", root, "give the folder that contains the class folders")
        self.root = root
        self.files: list[LabeledFile] = []
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        self.layout = self._find_files()
        if not self.files:
            hint = "give class folders (in train/ and val/, or at the top), or train.txt with `path label` rows"
            if self.rejected:
                hint = f"the first rejected one: {': '.join((self.rejected[0][0], self.rejected[0][2]))}"
            raise RequestError(f"no labeled image in the folder (read as {self.layout})", root, hint)
        self.classes = sort_class_names({file.label for file in self.files})

    def _find_files(self) -> str:
        """Collect the images and return the layout."""
        if (self.root / "train.txt").is_file():
            for split in ("train", "val", "test"):
                if (self.root / f"{split}.txt").is_file():
                    self._read_list(split)
            return "lists"
        if _has_folders(self.root / "train"):  # without folders it is a class: CIFAR-100 has one called train
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
            candidates = [self.root / relative, self.root / split / relative]
            image = next((candidate for candidate in candidates if is_file(candidate)), None)
            if fault:
                self.rejected.append((str(path), number, fault))
            elif image is None:
                self.rejected.append((str(path), number, f"the file {relative[:300]} does not exist"))
            elif image in seen:
                self.rejected.append((str(path), number, f"{relative} is already listed in line {seen[image]}"))
            else:
                seen[image] = number
                self.files.append(LabeledFile(image, label, split))

    def _read_class_folders(self, folder: Path, split: str) -> None:
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.name.startswith("."):
                before = len(self.files)
                fault = describe_row_fault(entry.name, entry.name)
                for path in sorted(path for path in entry.rglob("*") if not path.is_dir()):
                    if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                        if fault:
                            self.rejected.append((_as_text(path), 0, fault))
                            continue
                        self.files.append(LabeledFile(path, entry.name, split))
                    else:
                        self.skipped["not an image by its name"] += 1
                if len(self.files) == before:
                    self.skipped["class folder without an image"] += 1
            elif entry.suffix.lower() in IMAGE_SUFFIXES:
                self.skipped["image outside the class folders"] += 1
            elif entry.is_file():
                self.skipped["not an image by its name"] += 1


def _as_text(path: Path) -> str:
    """Return a path as UTF-8 text, whatever bytes it has."""
    return str(path).encode(errors="backslashreplace").decode()


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir())


def sort_class_names(labels: set[str]) -> list[str]:
    """Sort class names.

    Args:
        labels: class names.

    Returns:
        The names, sorted by number if all are numbers, else alphabetically.
    """
    return sorted(labels, key=int) if all(label.isdecimal() for label in labels) else sorted(labels)
