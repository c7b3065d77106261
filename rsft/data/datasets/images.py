"""What the data set classes share: samples with transforms, and figures."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torchgeo.datasets.geo import NonGeoDataset

from rsft.data.datasets.formats.gray_images import read_gray_band
from rsft.data.datasets.formats.text_files import PathOrText

Sample = dict[str, Any]
Transforms = Callable[[Sample], Sample]


class LabeledImages(NonGeoDataset):
    """Base class: subclasses load a sample; this class transforms and plots it.

    Attributes:
        classes: class names in the order of the labels.
        transforms: applied to each sample; None leaves it as it is.
    """

    classes: Sequence[str]
    transforms: Transforms | None

    def load_sample(self, index: int) -> Sample:
        """Load a sample, before the transforms.

        Returns:
            image: (B, H, W) float32 with the values of the file; label: index into
                `classes`.
        """
        raise NotImplementedError

    def __getitem__(self, index: int) -> Sample:
        """Return a sample after the transforms."""
        sample = self.load_sample(index)
        if not self.transforms:
            return sample
        return self.transforms(sample)

    def plot(
        self, sample: Sample, show_titles: bool = True, suptitle: str | None = None
    ) -> Figure:
        """Plot a sample, and the predicted class if the sample has one.

        The image is stretched from 0 to the 99.5th percentile, below its class.

        Args:
            sample: a sample. The first three bands become R, G and B; of fewer bands,
                each is shown in gray.
            show_titles: whether to show the class.
            suptitle: title of the figure.
        """
        image = sample["image"].numpy()
        panels = list(image)
        if len(image) >= 3:
            panels = [image[:3].transpose(1, 2, 0)]
        title = ""
        if show_titles:
            title = f"Label: {self.classes[int(sample['label'])]}"
            if "prediction" in sample:
                title += f"\nPrediction: {self.classes[int(sample['prediction'])]}"
        figure, axes = plt.subplots(1, len(panels), squeeze=False)
        for ax, panel in zip(axes[0], panels, strict=True):
            ax.imshow(stretch_to_white(panel), cmap="gray", vmin=0, vmax=1)
            ax.axis("off")
            ax.set_title(title)
        if suptitle is not None:
            figure.suptitle(suptitle)
        return figure


def stretch_to_white(values: NDArray[Any]) -> NDArray[Any]:
    """Scale values to 0-1, where 1 is the 99.5th percentile."""
    white = max(np.percentile(values, 99.5), np.finfo(np.float32).tiny)
    return np.asarray(np.clip(values / white, 0, 1))


def to_image_tensor(pixels: NDArray[Any]) -> torch.Tensor:
    """Convert pixels (H, W, B) to a tensor (B, H, W) of float32 with their values."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))


def load_gray_image(path: PathOrText) -> torch.Tensor:
    """Load an image of one band, see `read_gray_band`.

    Returns:
        (1, H, W) float32 with the values of the file.

    Raises:
        ValueError: the bands differ.
        OSError: the file is not a complete image.
    """
    return to_image_tensor(read_gray_band(path))
