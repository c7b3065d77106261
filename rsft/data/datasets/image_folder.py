"""Any labeled images on disk."""

from pathlib import Path

import torch
from torchgeo.datasets import DatasetNotFoundError
from torchgeo.datasets.utils import Path as PathOrText

from rsft.data.datasets.formats.labeled_files import LabeledFiles
from rsft.data.datasets.images import LabeledImages, Sample, Transforms, to_image_tensor
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError


class ImageFolderLT(LabeledImages):
    """The labeled images of a folder.

    It has one of three layouts; the first one that matches is read.

    1. List files train.txt (and val.txt, test.txt). Paths are relative to `root` or to
       the folder of the split. The last word of a row is the label.
    2. Class folders in train/ (and val/, test/).
    3. Class folders in `root`; all images belong to the training split.

    Class folders are searched to any depth.

    Attributes:
        classes: class names of all splits in the order of the labels.
        files: images of the split in the order of the lists, or sorted by path.
        layout: "lists", "split folders" or "class folders".
        skipped: number of empty class folders and of files that are not labeled images,
            by reason.
        rejected: rows of a list that cannot be used.
    """

    splits = ("train", "val", "test", "all")

    def __init__(
        self,
        root: PathOrText = "data",
        split: str = "train",
        transforms: Transforms | None = None,
    ) -> None:
        """Read the names of the images.

        Args:
            root: the folder.
            split: one of `splits`.
            transforms: applied to each sample.

        Raises:
            AssertionError: `split` is invalid.
            DatasetNotFoundError: the folder contains no labeled image of the split.
            DataError: a list is not a text file.
        """
        assert split in self.splits, (
            f"Split '{split}' not supported, use one of {self.splits}"
        )
        self.root = root
        self.split = split
        self.transforms = transforms
        try:
            source = LabeledFiles(Path(root))
        except RequestError as error:
            raise DatasetNotFoundError(self) from error
        self.files = [file for file in source.files if split in (file.split, "all")]
        if not self.files:
            raise DatasetNotFoundError(self)
        self.classes = source.classes
        self.layout = source.layout
        self.skipped = source.skipped
        self.rejected = source.rejected

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.files)

    def load_sample(self, index: int) -> Sample:
        """Return image (B, H, W) float32 with the values of the file, and label."""
        file = self.files[index]
        return {
            "image": to_image_tensor(read_chip(file.path)),
            "label": torch.tensor(self.classes.index(file.label)),
        }
