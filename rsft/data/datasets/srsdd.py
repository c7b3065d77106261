"""SRSDD dataset."""

from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torchgeo.datasets.errors import DatasetNotFoundError

from rsft.data.datasets.formats.srsdd_files import (
    SRSDD_CATEGORIES,
    SRSDDShip,
    SRSDDShips,
)
from rsft.data.datasets.formats.text_files import PathOrText
from rsft.data.datasets.images import (
    LabeledImages,
    Sample,
    Transforms,
    load_gray_image,
)


class SRSDD(LabeledImages):
    """SRSDD dataset.

    `SRSDD-v1.0 <https://doi.org/10.3390/rs13245104>`__ is a dataset for the detection
    of rotated ships in images of the SAR satellite Gaofen-3 in spotlight mode.

    Dataset features:

    * 666 images of 1024 x 1024 px with 2,884 ships
    * single band, C band, pixels of 1 m
    * multi-class object detection with oriented bounding boxes

    Dataset format:

    * images are PNG files
    * labels are text files in the format of DOTA, with or without its two header lines

    Dataset classes:

    0. Cell-Container (2,053 ships)
    1. Container (89)
    2. Fishing (288)
    3. LawEnforce (25)
    4. Dredger (263)
    5. ore-oil (166)
    6. bulk-cargo (in some copies of the dataset only)

    A label file belongs to the image of the same stem in the nearest folder; the names
    of the folders do not matter. Labels in another format, for example of YOLO, are
    left out. The dataset must be downloaded by hand.

    If you use this dataset in your research, please cite the following paper:

    * https://doi.org/10.3390/rs13245104

    Attributes:
        images: the images with labels, sorted by number.
        ships: by image, then in the order of the label file.
        skipped: number of files that are left out, by reason.
        rejected: rows and files that cannot be used.
    """

    classes = SRSDD_CATEGORIES
    splits = ("train", "test", "all")

    def __init__(
        self,
        root: PathOrText = "data",
        split: str = "train",
        transforms: Transforms | None = None,
    ) -> None:
        """Initialize a new SRSDD dataset instance.

        Args:
            root: root directory where dataset can be found
            split: "train" or "test" for the images below a folder of that name, "all"
                for all images
            transforms: a function/transform that takes input sample and its target as
                entry and returns a transformed version

        Raises:
            AssertionError: If *split* argument is invalid.
            DatasetNotFoundError: If dataset is not found.
            ValueError: If files that differ are equally near.
        """
        assert split in self.splits, (
            f"Split '{split}' not supported, use one of {self.splits}"
        )
        self.root = root
        self.split = split
        self.transforms = transforms
        files = SRSDDShips(root, split)
        if not files.images:
            raise DatasetNotFoundError(self)
        self.images = files.images
        self.ships = files.ships
        self.skipped = files.skipped
        self.rejected = files.rejected
        self._ships_of = defaultdict[Path, list[SRSDDShip]](list)
        for ship in self.ships:
            self._ships_of[ship.image].append(ship)

    def __len__(self) -> int:
        """Return the number of samples in the dataset."""
        return len(self.images)

    def load_sample(self, index: int) -> Sample:
        """Return image (1, H, W), label (N,), and the corners bbox (N, 8)."""
        path = self.images[index]
        ships = self._ships_of[path]
        labels = [self.classes.index(ship.category) for ship in ships]
        boxes = [ship.box for ship in ships]
        return {
            "image": load_gray_image(path),
            "label": torch.tensor(labels, dtype=torch.long),
            "bbox": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 8),
        }

    def plot(
        self,
        sample: Sample,
        show_titles: bool = True,
        suptitle: str | None = None,
    ) -> Figure:
        """Plot a sample with its boxes.

        Args:
            sample: a sample.
            show_titles: whether to show the classes beside the boxes.
            suptitle: title of the figure.
        """
        figure = super().plot(sample, show_titles=False, suptitle=suptitle)
        figure.set_size_inches(10, 10)
        axes = figure.axes[0]
        colors = plt.get_cmap("tab10")
        polygons = sample["bbox"].reshape(-1, 4, 2).numpy()
        for polygon, label in zip(polygons, sample["label"].tolist(), strict=True):
            color = colors(label)
            axes.add_patch(Polygon(polygon, fill=False, edgecolor=color, alpha=0.7))
            if show_titles:
                axes.annotate(self.classes[label], polygon[0], color=color)
        return figure
