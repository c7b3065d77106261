"""Any labelled images on disk: a tree of class folders, or list files of `path label` rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rsft.errors import RequestError
from rsft.imagery.read import IMAGE_SUFFIXES
from rsft.sources.text import Rejection, numbered_lines

_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class LabelledFile:
    """An image file, its class and its split."""

    path: Path
    label: str
    split: str


@dataclass
class LabelledFolder:
    """What `read_folder` found.

    Attributes:
        files: in the order of the lists, or by path.
        layout: lists, split folders or class folders.
        skipped: files that are no images by their place or name, by reason.
        rejected: rows of a list that cannot be used.
    """

    root: Path
    layout: str
    files: list[LabelledFile] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejection] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """By number where every class is one, else by the alphabet."""
        found = {file.label for file in self.files}
        return sorted(found, key=int) if all(name.isdecimal() for name in found) else sorted(found)


def read_folder(root: Path) -> LabelledFolder:
    """Find the labelled images under `root`.

    In this order: list files train.txt (and val.txt, test.txt) with paths relative to `root` or to the folder of their
    split; class folders in train/ (and val/, test/); class folders in `root` itself, which all count as train.
    A row's label is its last word. Class folders are searched to any depth.

    Raises:
        RequestError: no such folder, or no labelled image in it.
        DataError: a list that is no text.
    """
    if not root.is_dir():
        raise RequestError("there is no such folder", root, "name the folder that holds the class folders")
    if (root / "train.txt").is_file():
        found = LabelledFolder(root, "lists")
        for split in ("train", "val", "test"):
            if (root / f"{split}.txt").is_file():
                _read_list(found, split)
    elif (root / "train").is_dir():
        found = LabelledFolder(root, "split folders")
        for folder, split in _SPLIT_FOLDERS.items():
            if (root / folder).is_dir():
                _read_class_folders(found, root / folder, split)
    else:
        found = LabelledFolder(root, "class folders")
        _read_class_folders(found, root, "train")
    if not found.files:
        wanted = "give class folders (in train/ and val/, or at the top), or train.txt with `path label` rows"
        raise RequestError(f"no labelled image in the folder (read as {found.layout})", root, wanted)
    return found


def _read_list(found: LabelledFolder, split: str) -> None:
    path = found.root / f"{split}.txt"
    seen: dict[Path, int] = {}
    for number, line in numbered_lines(path):
        name, _, label = line.rpartition(" ") if "\t" not in line else line.rpartition("\t")
        if not name:
            found.rejected.append((str(path), number, "a row is `path label`"))
            continue
        relative = name.strip().replace("\\", "/")
        candidates = [found.root / relative, found.root / split / relative]
        image = next((candidate for candidate in candidates if candidate.is_file()), None)
        if image is None:
            found.rejected.append((str(path), number, f"there is no file {relative}"))
        elif image in seen:
            found.rejected.append((str(path), number, f"{relative} is listed already, in line {seen[image]}"))
        else:
            seen[image] = number
            found.files.append(LabelledFile(image, label, split))


def _read_class_folders(found: LabelledFolder, folder: Path, split: str) -> None:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            for path in sorted(entry.rglob("*")):
                if path.is_dir():
                    continue
                if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                    found.files.append(LabelledFile(path, entry.name, split))
                else:
                    found.skipped["not an image by its name"] += 1
        elif entry.suffix.lower() in IMAGE_SUFFIXES:
            found.skipped["image outside the class folders"] += 1
        elif entry.is_file():
            found.skipped["not an image by its name"] += 1
