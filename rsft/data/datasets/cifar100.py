"""CIFAR-100: 60,000 images of 32 x 32 pixels in 100 classes.

Krizhevsky 2009, "Learning multiple layers of features from tiny images".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure
from torchgeo.datasets import NonGeoDataset
from torchvision.datasets import CIFAR100 as PickledCIFAR100

from rsft.data.datasets._label_files import LabeledFiles
from rsft.data.datasets.image_folder import plot_classified_sample, to_image_tensor
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.types import Pixels, Rejection

_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
CLASSES = tuple(_NAMES.split())
"""Class names in the order of the labels."""

SPLIT_SIZE = {"train": 50_000, "test": 10_000}
"""Number of published images by split."""
PICKLES = PickledCIFAR100.base_folder
"""Name of the folder of the published pickle files."""

_SEARCH_DEPTH = 2


@dataclass(frozen=True)
class CIFARImage:
    """One image.

    Attributes:
        path: the image file, or the pickle file that contains the image.
        label: class name.
        split: train, val or test.
        index: position in the pickle file.
        read_pixels: returns the pixels (32, 32, 3) of an image in a pickle file; None for an image file.
    """

    path: Path
    label: str
    split: str
    index: int = 0
    read_pixels: Callable[[], Pixels] | None = None


class CIFAR100(NonGeoDataset):
    """CIFAR-100 as published (cifar-100-python/), or as PNG files in train/<class>/ and test/<class>/.

    The published files are pickles. torchvision checks the MD5 sum of each file before it loads it, so a pickle with
    other content is never loaded.

    Args:
        root: the folder of the images, or a folder up to two levels above it.
        transforms: applied to each sample.

    Attributes:
        classes: class names in the order of the labels.
        images: training images first.
        layout: "pickles" or "folders".
        skipped: as in `ImageFolderLT`; images in folders that are not classes of CIFAR-100 are skipped too.
        rejected: as in `ImageFolderLT`.

    Raises:
        RequestError: `root` contains neither layout.
        DataError: a published file is missing or altered.
    """

    classes: ClassVar[tuple[str, ...]] = CLASSES

    def __init__(self, root: Path, transforms: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> None:
        self.root, self.layout = _find_root(root)
        self.transforms = transforms
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        self.images = self._from_pickles() if self.layout == "pickles" else self._from_folders()

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample.

        Args:
            index: position of the sample.

        Returns:
            image: (3, 32, 32) float32 in 0-255; label: index into `classes`.

        Raises:
            DataError: the file is not a complete image.
        """
        image = self.images[index]
        pixels = read_chip(image.path) if image.read_pixels is None else image.read_pixels()
        sample = {"image": to_image_tensor(pixels), "label": torch.tensor(CLASSES.index(image.label))}
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
        return plot_classified_sample(sample, CLASSES, show_titles, suptitle)

    def _from_pickles(self) -> list[CIFARImage]:
        images = []
        for split in SPLIT_SIZE:
            try:
                published = PickledCIFAR100(self.root, train=split == "train")
            except RuntimeError as error:
                hint = f"download {PickledCIFAR100.url} again"
                raise DataError("CIFAR-100 is incomplete or altered", self.root / PICKLES, hint) from error
            path = self.root / PICKLES / split
            for index, (pixels, target) in enumerate(zip(published.data, published.targets, strict=True)):
                images.append(CIFARImage(path, CLASSES[target], split, index, partial(_identity, pixels)))
        return images

    def _from_folders(self) -> list[CIFARImage]:
        folder = LabeledFiles(self.root)
        self.skipped, self.rejected = folder.skipped, folder.rejected
        files = [file for file in folder.files if file.label in CLASSES]
        if not files:
            hint = f"the folders should be called {CLASSES[0]}, {CLASSES[1]} and so on"
            raise RequestError("no folder has the name of a CIFAR-100 class", self.root, hint)
        if len(files) < len(folder.files):
            self.skipped["image in a folder that is not a class of CIFAR-100"] += len(folder.files) - len(files)
        return [CIFARImage(file.path, file.label, file.split) for file in files]


def _find_root(root: Path) -> tuple[Path, str]:
    """Return the folder of the images, which is `root` or below it, and its layout."""
    level = [root] if root.is_dir() else []
    for _ in range(_SEARCH_DEPTH):
        for folder in level:
            if (folder / PICKLES).is_dir():
                return folder, "pickles"
            if (folder / "train").is_dir() and (folder / "test").is_dir():
                return folder, "folders"
        level = sorted(child for folder in level for child in folder.iterdir() if child.is_dir())
    hint = f"give the folder that contains {PICKLES}, or train and test"
    raise RequestError("the folder does not contain CIFAR-100", root, hint)


def _identity(pixels: Pixels) -> Pixels:
    return pixels
