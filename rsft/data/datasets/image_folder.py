"""Any labeled images on disk: class folders, or list files with `path label` rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torchgeo.datasets import NonGeoDataset

from rsft.data.datasets._plotting import plot_classified_sample, to_image_tensor
from rsft.data.datasets.list_files import describe_row_fault, read_list_rows
from rsft.data.imagery.reader import IMAGE_SUFFIXES, read_chip
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


class ImageFolderLT(NonGeoDataset):
    """The labeled images of a folder. It has one of three layouts; the first one that matches is read.

    1. List files train.txt (and val.txt, test.txt). Paths are relative to `root` or to the folder of the split. The
       last word of a row is the label.
    2. Class folders in train/ (and val/, test/).
    3. Class folders in `root`; all images belong to the training split.

    Class folders are searched to any depth.

    Args:
        root: the folder.
        transforms: applied to each sample.

    Attributes:
        classes: class names in the order of the labels.
        files: in the order of the lists, or sorted by path.
        layout: "lists", "split folders" or "class folders".
        skipped: number of empty class folders and of files that are not labeled images, by reason.
        rejected: rows of a list that cannot be used.

    Raises:
        RequestError: the folder does not exist or contains no labeled image.
        DataError: a list is not a text file.
    """

    def __init__(self, root: Path, transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> None:
        if not root.is_dir():
            raise RequestError("the folder does not exist", root, "give the folder that contains the class folders")
        self.root, self.transforms = root, transforms
        self.files: list[LabeledFile] = []
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        self.layout = self._find_files()
        if not self.files:
            hint = "give class folders (in train/ and val/, or at the top), or train.txt with `path label` rows"
            raise RequestError(f"no labeled image in the folder (read as {self.layout})", root, hint)
        self.classes = sort_class_names({file.label for file in self.files})

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample.

        Args:
            index: position of the sample.

        Returns:
            image: (B, H, W) float32 with the values of the file; label: index into `classes`.

        Raises:
            DataError: the file is not a complete image.
        """
        file = self.files[index]
        label = torch.tensor(self.classes.index(file.label))
        sample = {"image": to_image_tensor(read_chip(file.path)), "label": label}
        return sample if self.transforms is None else self.transforms(sample)

    def plot(self, sample: dict[str, Any], show_titles: bool = True, suptitle: str | None = None) -> Figure:
        """Plot a sample with its class name.

        Args:
            sample: a sample from `__getitem__`; it may have a prediction.
            show_titles: whether to show the class, and the predicted class.
            suptitle: title of the figure.

        Returns:
            The figure.
        """
        return plot_classified_sample(sample, self.classes, show_titles, suptitle)

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
            image = next((candidate for candidate in candidates if candidate.is_file()), None)
            if fault:
                self.rejected.append((str(path), number, fault))
            elif image is None:
                self.rejected.append((str(path), number, f"the file {relative} does not exist"))
            elif image in seen:
                self.rejected.append((str(path), number, f"{relative} is already listed in line {seen[image]}"))
            else:
                seen[image] = number
                self.files.append(LabeledFile(image, label, split))

    def _read_class_folders(self, folder: Path, split: str) -> None:
        for entry in sorted(folder.iterdir()):
            if entry.is_dir() and not entry.name.startswith("."):
                before = len(self.files)
                for path in sorted(path for path in entry.rglob("*") if not path.is_dir()):
                    if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
                        self.files.append(LabeledFile(path, entry.name, split))
                    else:
                        self.skipped["not an image by its name"] += 1
                if len(self.files) == before:
                    self.skipped["class folder without an image"] += 1
            elif entry.suffix.lower() in IMAGE_SUFFIXES:
                self.skipped["image outside the class folders"] += 1
            elif entry.is_file():
                self.skipped["not an image by its name"] += 1


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
