"""CIFAR-100: 60,000 images of 32 x 32 pixels in 100 classes.

Krizhevsky 2009, "Learning multiple layers of features from tiny images".
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR100 as PickledCIFAR100

from rsft.data.datasets.formats.labeled_files import LabeledFile, LabeledFiles
from rsft.errors import DataError, RequestError
from rsft.plugins.natural_images.archives import CIFAR_100_ARCHIVE
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


class CIFAR100:
    """CIFAR-100 as published, or as PNG files in train/<class>/ and test/<class>/.

    The published files are pickles. torchvision checks the MD5 sum of each file before
    it loads it, so a pickle with other content is never loaded.

    Args:
        root: the folder of the images, or the folder that contains it.

    Attributes:
        root: the folder of the images.
        images: training images first.
        skipped: as in `LabeledFiles`; images in folders that are not classes of
            CIFAR-100 are skipped too.
        rejected: as in `LabeledFiles`.

    Raises:
        RequestError: `root` contains neither layout.
        DataError: a published file is missing or altered.
    """

    def __init__(self, root: Path) -> None:
        self.skipped: Counter[str] = Counter()
        self.rejected: list[Rejection] = []
        for folder in [root, *sorted(root.glob("*"))]:
            self.root = folder
            if (folder / PICKLES).is_dir():
                self.images = self._from_pickles()
                return
            if (folder / "train").is_dir() and (folder / "test").is_dir():
                self.images = self._from_folders()
                return
        raise RequestError(
            "the folder does not contain CIFAR-100",
            root,
            f"give the folder that contains {CIFAR_100_ARCHIVE.content}",
        )

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
