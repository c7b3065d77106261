"""Any labeled images on disk: class folders, or list files with `path label` rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torchgeo.datasets import NonGeoDataset

from rsft.data.datasets._image_files import LabeledFiles
from rsft.data.datasets._plotting import plot_classified_sample, to_image_tensor
from rsft.data.imagery.reader import read_chip


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
        source = LabeledFiles(root)
        self.root, self.transforms = root, transforms
        self.classes, self.files, self.layout = source.classes, source.files, source.layout
        self.skipped, self.rejected = source.skipped, source.rejected

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
