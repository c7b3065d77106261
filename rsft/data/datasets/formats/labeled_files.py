"""Labeled image files in class folders, or in list files with `path label` rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rsft.data.chips.class_names import list_first_names
from rsft.data.chips.manifest import SPLITS
from rsft.data.chips.record import describe_rejections
from rsft.data.datasets.formats.label_rows import (
    describe_row_fault,
    exists,
    read_list_rows,
    sort_class_names,
)
from rsft.data.datasets.formats.text_files import SPLIT_FOLDERS, SourceReport
from rsft.data.imagery.reader import IMAGE_SUFFIXES
from rsft.errors import RequestError
from rsft.utils.operating_system import path_order, walk_files

_NO_CLASS = re.compile(
    r"(train|val|valid|validation|test|images?|jpegimages|masks|labels|labeltxt"
    r"|annotations|annfiles)(\d{4})?",
    re.IGNORECASE,
)
"""Names of folders of splits, and of images beside the labels of the objects in them:
they are no classes if a folder has no others."""

_HINT = (
    "give the folder that contains the class folders; to cut out labeled objects: rsft"
    " prepare scenes IMAGES --at LABELS --root STORE"
)


@dataclass(frozen=True, slots=True)
class LabeledFile:
    """An image file with its class name and its split.

    The path is a text, because a `Path` takes 400 bytes.
    """

    name: str
    label: str
    split: str

    @property
    def path(self) -> Path:
        """Path of the file."""
        return Path(self.name)


class LabeledRows(SourceReport):
    """The images in the rows of lists or tables.

    Attributes:
        files: in the order of the rows.
        classes: class names, sorted as in `sort_class_names`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: list[LabeledFile] = []
        self.classes: list[str] = []
        self._named: set[str] = set()
        self._lines: dict[Path, int] = {}

    def add(
        self, source: Path, line: int, image: Path, label: str, split: str, fault: str
    ) -> None:
        """Add the image of a row, or reject the row.

        Args:
            source: the list or table.
            line: line of the row.
            image: path of the image.
            label: its class.
            split: its split.
            fault: why the row cannot be used, or "".
        """
        if not fault:
            self._named.add(label)
        if not fault and not exists(image):
            fault = f"the file does not exist: {str(image)[:600]}"
        elif not fault and image in self._lines:
            fault = f"{image.name} is already listed in line {self._lines[image]}"
        if fault:
            self.reject(source, fault, line)
        else:
            self._lines[image] = line
            self.files.append(LabeledFile(str(image), label, split))

    def _set_classes(self) -> None:
        """Set `classes`, and name those without an image that can be used."""
        names = {file.label for file in self.files}
        self.classes = sort_class_names(names)
        lost = sort_class_names(self._named - names)
        if lost:
            reason = f"class without a usable image: {list_first_names(lost)}"
            self.skipped[reason] = len(lost)


class LabeledFiles(LabeledRows):
    """The labeled images of a folder.

    It has one of three layouts; the first one that matches is read.

    1. List files train.txt (and val.txt, test.txt). Paths are relative to `root` or to
       the folder of the split. The last word of a row is the label.
    2. Class folders in train/ (and val/, test/).
    3. Class folders in `root`; all images belong to the training split.

    Class folders are searched to any depth.

    Attributes:
        files: in the order of the lists, or sorted by path.
        layout: "lists", "split folders" or "class folders".
        skipped: number of classes without an image and of files that are not labeled
            images, by reason.
        rejected: rows of a list, and images of class folders, that cannot be used.

    Raises:
        RequestError: the folder does not exist, contains no labeled image, or contains
            labels of objects in images.
        DataError: a list is not a text file.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            fault = "the folder does not exist"
            if root.exists():
                fault = "this is a file, not a folder"
            raise RequestError(fault, root, _HINT)
        super().__init__()
        self.root = root
        self.layout = self._find_files()
        self.skipped = +self.skipped
        if not self.files:
            raise RequestError(
                f"no labeled image in the folder (read as {self.layout})",
                root,
                describe_rejections(self.rejected)
                or "give class folders (in train/ and val/, or at the top), or"
                " train.txt with `path label` rows",
            )
        self._set_classes()
        if self.layout != "lists" and all(map(_NO_CLASS.fullmatch, self.classes)):
            raise RequestError(
                f"{', '.join(self.classes)} are no class folders", root, _HINT
            )

    def _find_files(self) -> str:
        """Collect the images and return the layout."""
        train = self.root / "train"
        if (self.root / "train.txt").is_file():
            for split in SPLITS:
                if (self.root / f"{split}.txt").is_file():
                    self._read_list(split)
            return "lists"
        # without folders it is a class: CIFAR-100 has one called train
        if train.is_dir() and any(entry.is_dir() for entry in train.iterdir()):
            for folder, split in SPLIT_FOLDERS.items():
                if (self.root / folder).is_dir():
                    self._read_class_folders(self.root / folder, split)
            return "split folders"
        self._read_class_folders(self.root, "train")
        return "class folders"

    def _read_list(self, split: str) -> None:
        path = self.root / f"{split}.txt"
        for number, relative, label in read_list_rows(path):
            fault = describe_row_fault(relative, label)
            image = self.root / relative
            if not exists(image):
                image = self.root / split / relative
            self.add(path, number, image, label, split, fault)

    def _read_class_folders(self, folder: Path, split: str) -> None:
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.name.startswith("."):
                self._read_class_folder(entry, split)
            elif entry.suffix.lower() in IMAGE_SUFFIXES:
                self.skipped["image outside the class folders"] += 1
            else:
                self.skipped["not an image by its name"] += entry.is_file()

    def _read_class_folder(self, folder: Path, split: str) -> None:
        fault = describe_row_fault(folder.name, folder.name)
        if not fault:
            self._named.add(folder.name)
        for path in map(Path, sorted(walk_files(folder), key=path_order)):
            if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
                self.skipped["not an image by its name"] += 1
            elif fault:
                # whatever bytes the name has
                name = str(path).encode(errors="backslashreplace").decode()
                self.rejected.append((name, 0, fault))
            else:
                self.files.append(LabeledFile(str(path), folder.name, split))
