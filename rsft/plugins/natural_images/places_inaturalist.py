"""Places-LT and iNaturalist 2018, which are long-tailed as published."""

from pathlib import Path
from typing import ClassVar

import torch
from torchgeo.datasets import DatasetNotFoundError
from torchgeo.datasets.utils import Path as PathOrText

from rsft.data.datasets.images import LabeledImages, Sample, Transforms, to_image_tensor
from rsft.data.imagery.reader import read_chip
from rsft.errors import RequestError
from rsft.plugins.natural_images.list_files import (
    INATURALIST_2018,
    PLACES_LT,
    ListFiles,
    PublishedLists,
)


class ListFileDataset(LabeledImages):
    """The images in the list files of a data set.

    Attributes:
        table: split, path, label (integer) and class of every existing image of the
            split, in the order of the lists.
        classes: class names in the order of the labels: the folder of the images,
            otherwise the number of the label.
        differences: differences between the lists and the published ones.
        rejected: file, line and reason of rows of all lists that cannot be used.
    """

    published: ClassVar[PublishedLists]

    def __init__(
        self,
        root: PathOrText = "data",
        split: str = "train",
        transforms: Transforms | None = None,
        lists: PathOrText | None = None,
    ) -> None:
        """Read the lists.

        Args:
            root: the folder that the paths in the lists are relative to.
            split: the split of a list, or "all".
            transforms: applied to each sample.
            lists: the folder of the lists; by default `root`.

        Raises:
            AssertionError: `split` is invalid.
            DatasetNotFoundError: the training list or all images of the split are
                missing.
            DataError: a list is not a text file.
        """
        splits = (*self.published.lists, "all")
        assert split in splits, f"Split '{split}' not supported, use one of {splits}"
        self.root = root
        self.split = split
        self.transforms = transforms
        try:
            source = ListFiles(
                self.published, Path(root), None if lists is None else Path(lists)
            )
        except RequestError as error:
            raise DatasetNotFoundError(self) from error
        in_split = source.table["split"] == split
        self.table = source.table[in_split | (split == "all")].reset_index(drop=True)
        if self.table.empty:
            raise DatasetNotFoundError(self)
        self.classes = source.classes
        self.differences = source.differences
        self.rejected = source.rejected

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.table)

    def load_sample(self, index: int) -> Sample:
        """Return image (3, H, W) float32 with the values of the file, and label."""
        row = self.table.iloc[index]
        image = to_image_tensor(read_chip(Path(self.root) / row["path"]))
        return {"image": image, "label": torch.tensor(int(row["label"]))}


class PlacesLT(ListFileDataset):
    """Places-LT dataset.

    Places-LT is a long-tailed dataset of photographs of scenes, drawn from Places365.

    Dataset features:

    * 62,500 RGB images for training, 7,300 for validation and 36,500 for testing
    * 365 classes with 5 to 4,980 training images

    Dataset format:

    * lists Places_LT_train.txt, Places_LT_val.txt and Places_LT_test.txt with rows
      `path label`
    * images as in Places365, with paths relative to *root*

    The dataset must be downloaded by hand. If you use it in your research, please cite
    the following paper:

    * Liu et al. 2019, "Large-scale long-tailed recognition in an open world",
      https://arxiv.org/abs/1904.05160
    """

    published = PLACES_LT


class INaturalist2018(ListFileDataset):
    """iNaturalist 2018 dataset.

    iNaturalist 2018 is a long-tailed dataset of photographs of plants and animals.

    Dataset features:

    * 437,513 RGB images for training and 24,426 for validation; the labels of the test
      images are not published
    * 8,142 species with 2 to 1,000 training images

    Dataset format:

    * lists iNaturalist18_train.txt and iNaturalist18_val.txt with rows `path label`, by
      Kang et al. 2020, "Decoupling representation and classifier"
    * images in train_val2018/<group>/<species>/, with paths relative to *root*

    The dataset must be downloaded by hand. If you use it in your research, please cite
    the following paper:

    * Van Horn et al. 2018, "The iNaturalist species classification and detection
      dataset"
    """

    published = INATURALIST_2018
