"""Gray images: loading and plotting."""

from __future__ import annotations

import os
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def load_gray_image(path: str | os.PathLike[str]) -> Tensor:
    """Load an image of one band; some copies repeat the band as R, G and B.

    Args:
        path: the image file.

    Returns:
        (1, H, W) float32 with the values of the file.

    Raises:
        ValueError: the bands differ.
        OSError: the file is not a complete image.
    """
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB") if image.mode == "P" else image).astype(np.float32)
    if pixels.ndim == 3:
        if (pixels != pixels[:, :, :1]).any():
            raise ValueError(f"{path}: the {pixels.shape[2]} bands differ, but a single band is expected")
        pixels = pixels[:, :, 0]
    return torch.from_numpy(pixels[None].copy())


def stretch_to_white(image: Tensor) -> NDArray[np.float32]:
    """Return the first band from 0 to 1, where 1 is the 99.5th percentile.

    Args:
        image: (B, H, W).

    Returns:
        (H, W).
    """
    white = max(float(np.percentile(image[0].numpy(), 99.5)), float(np.finfo(np.float32).tiny))
    return np.clip(image[0].numpy() / np.float32(white), 0, 1)


def plot_classified_image(
    sample: dict[str, Tensor], classes: Sequence[str], show_titles: bool, suptitle: str | None
) -> Figure:
    """Plot an image with its class and, if the sample has one, the predicted class.

    Args:
        sample: image (1, H, W), label and optionally prediction.
        classes: names of the classes.
        show_titles: flag indicating whether to show the classes.
        suptitle: optional string to use as a suptitle.

    Returns:
        The figure.
    """
    figure, axes = plt.subplots(figsize=(4, 4))
    axes.imshow(stretch_to_white(sample["image"]), cmap="gray", vmin=0, vmax=1)
    axes.axis("off")
    if show_titles:
        title = f"Label: {classes[int(sample['label'])]}"
        if "prediction" in sample:
            title += f"\nPrediction: {classes[int(sample['prediction'])]}"
        axes.set_title(title)
    if suptitle is not None:
        figure.suptitle(suptitle)
    return figure
