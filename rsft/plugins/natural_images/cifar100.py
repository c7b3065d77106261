"""CIFAR-100: 60,000 images of 32 x 32 pixels in 100 classes.

Krizhevsky 2009, "Learning multiple layers of features from tiny images".
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torchgeo.datasets import DatasetNotFoundError
from torchgeo.datasets.utils import Path as PathOrText
from torchvision.datasets import CIFAR100 as PickledCIFAR100

from rsft.data.datasets.formats.labeled_files import LabeledFile, LabeledFiles
from rsft.data.datasets.images import LabeledImages, Sample, Transforms, to_image_tensor
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.types import Pixels, Rejection

_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach
couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster
house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket
rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip
turtle wardrobe whale willow_tree wolf woman worm
"""
CLASSES = tuple(_NAMES.split())
"""Class names in the order of the labels."""

SPLIT_SIZE = {"train": 50_000, "test": 10_000}
"""Number of published images by split."""
PICKLES = PickledCIFAR100.base_folder
"""Name of the folder of the published pickle files."""


@dataclass(frozen=True)
class CIFARImage(LabeledFile):
    """One image.

    Attributes:
        line: position in the pickle file, from 1; 0 for an image file.
        read_pixels: returns the pixels (32, 32, 3) of an image in a pickle file; None
            for an image file.
    """

    line: int = 0
    read_pixels: Callable[[], Pixels] | None = None


class CIFAR100(LabeledImages):
    """CIFAR-100 as published, or as PNG files in train/<class>/ and test/<class>/.

    The published files are pickles. torchvision checks the MD5 sum of each file before
    it loads it, so a pickle with other content is never loaded.

    Attributes:
        classes: class names in the order of the labels.
        images: training images first.
        layout: "pickles" or "folders".
        skipped: as in `ImageFolderLT`; images in folders that are not classes of
            CIFAR-100 are skipped too.
        rejected: as in `ImageFolderLT`.
    """

    classes = CLASSES
    splits = ("train", "val", "test", "all")

    def __init__(
        self,
        root: PathOrText = "data",
        split: str = "train",
        transforms: Transforms | None = None,
    ) -> None:
        """Find the images.

        Args:
            root: the folder of the images, or the folder that contains it.
            split: one of `splits`; only folders may have a split "val".
            transforms: applied to each sample.

        Raises:
            AssertionError: `split` is invalid.
            DatasetNotFoundError: `root` contains neither layout, or no image of the
                split.
            DataError: a published file is missing or altered.
        """
        assert split in self.splits, (
            f"Split '{split}' not supported, use one of {self.splits}"
        )
        self.root = Path(root)
        self.split = split
        self.transforms = transforms
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        self._find_root()
        try:
            if self.layout == "pickles":
                images = self._from_pickles()
            else:
                images = self._from_folders()
        except RequestError as error:
            raise DatasetNotFoundError(self) from error
        self.images = [image for image in images if split in (image.split, "all")]
        if not self.images:
            raise DatasetNotFoundError(self)

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.images)

    def load_sample(self, index: int) -> Sample:
        """Return image (3, 32, 32) float32 in 0-255, and label."""
        image = self.images[index]
        if image.read_pixels is None:
            pixels = read_chip(image.path)
        else:
            pixels = image.read_pixels()
        return {
            "image": to_image_tensor(pixels),
            "label": torch.tensor(CLASSES.index(image.label)),
        }

    def _find_root(self) -> None:
        """Set the folder of the images, `root` or one in it, and the layout."""
        folders = [self.root, *sorted(self.root.glob("*"))]
        for folder in filter(Path.is_dir, folders):
            if (folder / PICKLES).is_dir():
                self.layout = "pickles"
            elif (folder / "train").is_dir() and (folder / "test").is_dir():
                self.layout = "folders"
            else:
                continue
            self.root = folder
            return
        raise DatasetNotFoundError(self)

    def _from_pickles(self) -> list[CIFARImage]:
        images = []
        for split in SPLIT_SIZE:
            try:
                published = PickledCIFAR100(self.root, train=split == "train")
            except RuntimeError as error:
                raise DataError(
                    "CIFAR-100 is incomplete or altered",
                    self.root / PICKLES,
                    f"download {PickledCIFAR100.url} again",
                ) from error
            file = str(self.root / PICKLES / split)
            samples = zip(published.data, published.targets, strict=True)
            for line, (pixels, target) in enumerate(samples, 1):
                read = partial(np.asarray, pixels)
                images.append(CIFARImage(file, CLASSES[target], split, line, read))
        return images

    def _from_folders(self) -> list[CIFARImage]:
        source = LabeledFiles(self.root)
        self.skipped = source.skipped
        self.rejected = source.rejected
        images = []
        for file in source.files:
            if file.label in CLASSES:
                images.append(CIFARImage(file.name, file.label, file.split))
            else:
                reason = "image in a folder that is not a class of CIFAR-100"
                self.skipped[reason] += 1
        if not images:
            raise RequestError(
                "no folder has the name of a CIFAR-100 class",
                self.root,
                f"the folders should be called {CLASSES[0]}, {CLASSES[1]} and so on",
            )
        return images
