"""Conversion of images to tensors and figures, shared by the data set classes."""

from __future__ import annotations

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


def plot_image(image: Tensor, title: str) -> Figure:
    """Plot an image, stretched from 0 to the 99.5th percentile.

    Args:
        image: (B, H, W); the first three bands become R, G and B; of fewer bands, the first is shown in gray.
        title: title of the figure.

    Returns:
        The figure.
    """
    bands = image.numpy()[: 3 if len(image) >= 3 else 1].transpose(1, 2, 0)
    white = max(float(np.percentile(bands, 99.5)), np.finfo(np.float32).tiny)
    figure, axes = plt.subplots()
    axes.imshow(np.clip(bands / white, 0, 1), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title)
    axes.axis("off")
    return figure
