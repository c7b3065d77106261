"""Conversion of images to tensors and figures, shared by the data set classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

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
