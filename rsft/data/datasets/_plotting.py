"""What every image data set does with a sample: a tensor of it, and a figure."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from rsft.types import Pixels


def to_image_tensor(pixels: Pixels) -> Tensor:
    """(H, W, B) of any number type -> (B, H, W) float32, values unchanged."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))


def plot_image(image: Tensor, title: str) -> Figure:
    """(B, H, W) from black to its brightest half percent: R, G, B of three bands or more, else the first in grey."""
    bands = image.numpy()[: 3 if len(image) >= 3 else 1].transpose(1, 2, 0)
    white = max(float(np.percentile(bands, 99.5)), np.finfo(np.float32).tiny)
    figure, axes = plt.subplots()
    axes.imshow(np.clip(bands / white, 0, 1), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title)
    axes.axis("off")
    return figure
