"""Any labeled images on disk: class folders, or list files with `path label` rows.

Natural images with list files: Places-LT and iNaturalist 2018, which are long-tailed as published.

Conversion of images to tensors and figures, shared by the data set classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchgeo.datasets import DatasetNotFoundError, NonGeoDataset

from rsft.data.datasets._label_files import INATURALIST_2018, PLACES_LT, LabeledFiles, ListFiles, PublishedLists
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError
from rsft.types import Pixels


def to_image_tensor(pixels: Pixels) -> Tensor:
    """Convert pixels to a tensor with the same values.

    Args:
        pixels: (H, W, B) of any data type.

    Returns:
        (B, H, W) float32.
    """
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))


def make_title(sample: Mapping[str, Any], classes: Sequence[str]) -> str:
    """Return the class of a sample, and the predicted class if the sample has one.

    Args:
        sample: a sample with a label and optionally a prediction, both indices into `classes`.
        classes: class names.

    Returns:
        One or two lines, as in TorchGeo.
    """
    title = f"Label: {classes[int(sample['label'])]}"
    return f"{title}\nPrediction: {classes[int(sample['prediction'])]}" if "prediction" in sample else title


def plot_classified_sample(
    sample: Mapping[str, Any], classes: Sequence[str], show_titles: bool = True, suptitle: str | None = None
) -> Figure:
    """Plot the image of a sample, stretched from 0 to the 99.5th percentile.

    Args:
        sample: a sample with an image (B, H, W) and a label. The first three bands become R, G and B; of fewer bands,
            the first is shown in gray.
        classes: class names.
        show_titles: whether to show the class, and the predicted class.
        suptitle: title of the figure.

    Returns:
        The figure.
    """
    image = sample["image"].numpy()
    bands = image[: 3 if len(image) >= 3 else 1].transpose(1, 2, 0)
    white = max(float(np.percentile(bands, 99.5)), np.finfo(np.float32).tiny)
    figure, axes = plt.subplots()
    axes.imshow(np.clip(bands / white, 0, 1), cmap="gray", vmin=0, vmax=1)
    axes.axis("off")
    if show_titles:
        axes.set_title(make_title(sample, classes))
    if suptitle is not None:
        figure.suptitle(suptitle)
    return figure


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


class ListFileDataset(NonGeoDataset):
    """The images in the list files of a data set.

    Attributes:
        table: split, path, label (integer) and class of every existing image of the split, in the order of the lists.
        classes: class names in the order of the labels: the folder of the images, otherwise the number of the label.
        differences: differences between the lists and the published ones.
        rejected: file, line and reason of rows of all lists that cannot be used.
    """

    published: ClassVar[PublishedLists]
    splits: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        root: str | os.PathLike[str] = "data",
        split: str = "train",
        transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        lists: str | os.PathLike[str] | None = None,
    ) -> None:
        """Initialize a new instance.

        Args:
            root: the folder that the paths in the lists are relative to.
            split: one of `splits`.
            transforms: applied to each sample.
            lists: the folder of the lists; by default `root`.

        Raises:
            AssertionError: `split` is invalid.
            DatasetNotFoundError: the training list or all images of the split are missing.
            DataError: a list is not a text file.
        """
        assert split in self.splits, f"Split '{split}' not supported, use one of {self.splits}"
        self.root, self.split, self.transforms = root, split, transforms
        try:
            source = ListFiles(self.published, Path(root), None if lists is None else Path(lists))
        except RequestError as error:
            raise DatasetNotFoundError(self) from error
        in_split = source.table["split"] == split
        self.table = source.table[in_split | (split == "all")].reset_index(drop=True)
        if self.table.empty:
            raise DatasetNotFoundError(self)
        self.classes, self.differences, self.rejected = source.classes, source.differences, source.rejected

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample.

        Args:
            index: position of the sample.

        Returns:
            image: (3, H, W) float32 with the values of the file; label: index into `classes`.

        Raises:
            DataError: the file is not a complete image.
        """
        row = self.table.iloc[index]
        sample = {
            "image": to_image_tensor(read_chip(Path(self.root) / row["path"])),
            "label": torch.tensor(int(row["label"])),
        }
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


class PlacesLT(ListFileDataset):
    """Places-LT dataset.

    Places-LT is a long-tailed dataset of photographs of scenes, drawn from Places365.

    Dataset features:

    * 62,500 RGB images for training, 7,300 for validation and 36,500 for testing
    * 365 classes with 5 to 4,980 training images

    Dataset format:

    * lists Places_LT_train.txt, Places_LT_val.txt and Places_LT_test.txt with rows `path label`
    * images as in Places365, with paths relative to *root*

    The dataset must be downloaded by hand. If you use it in your research, please cite the following paper:

    * Liu et al. 2019, "Large-scale long-tailed recognition in an open world", https://arxiv.org/abs/1904.05160
    """

    published = PLACES_LT
    splits = ("train", "val", "test", "all")


class INaturalist2018(ListFileDataset):
    """iNaturalist 2018 dataset.

    iNaturalist 2018 is a long-tailed dataset of photographs of plants and animals.

    Dataset features:

    * 437,513 RGB images for training and 24,426 for validation; the labels of the test images are not published
    * 8,142 species with 2 to 1,000 training images

    Dataset format:

    * lists iNaturalist18_train.txt and iNaturalist18_val.txt with rows `path label`, by Kang et al. 2020, "Decoupling
      representation and classifier"
    * images in train_val2018/<group>/<species>/, with paths relative to *root*

    The dataset must be downloaded by hand. If you use it in your research, please cite the following paper:

    * Van Horn et al. 2018, "The iNaturalist species classification and detection dataset"
    """

    published = INATURALIST_2018
    splits = ("train", "val", "all")
