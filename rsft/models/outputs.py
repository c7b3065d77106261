"""Test-time views of chips and averages of predictions, in NumPy and PyTorch.

Engines without PyTorch need them too, so this module does not import it.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from rsft.data.imagery.contract import Contract
from rsft.recipe.schema import EvaluateSection
from rsft.types import Floats32
from rsft.utils.array_namespace import array_namespace, log_sum_exp, to_array


class ClassifierOutputs(NamedTuple):
    """Logits (N, C), and the pooled features (N, D) behind them, float32."""

    logits: Floats32
    features: Floats32


TakeViews = Callable[[Any, int], list[Any]]
"""Returns views (B, P, size, size) of images (B, P, H, W), given the images and
`size`."""


def take_crops(images: Any, size: int) -> list[Any]:
    """Crop the corners and the center of images.

    Returns:
        Five crops (B, P, size, size) of images (B, P, H, W).
    """
    bottom = images.shape[2] - size
    right = images.shape[3] - size
    offsets = [
        (0, 0),
        (0, right),
        (bottom, 0),
        (bottom, right),
        (bottom // 2, right // 2),
    ]
    return [images[:, :, top : top + size, left : left + size] for top, left in offsets]


def add_mirror_images(views: Sequence[Any]) -> list[Any]:
    """Return views (B, P, S, S) and their mirror images along the last axis."""
    return [*views, *(array_namespace(view).flip(view, (3,)) for view in views)]


def rotate_images(images: Any, degrees: float) -> Any:
    """Rotate images (B, P, S, S) about their center.

    The four nearest pixels are interpolated. Beyond its border, an image is mirrored.
    """
    last = images.shape[3] - 1
    cosine = math.cos(math.radians(degrees))
    sine = math.sin(math.radians(degrees))
    matrix = [[cosine, sine], [-sine, cosine]]
    offsets = np.mgrid[: last + 1, : last + 1] - last / 2
    sources = np.tensordot(matrix, offsets, 1) + last / 2
    sources = last - np.abs(last - np.abs(sources))
    # the last pixel has no neighbor behind it
    pixels = np.minimum(sources.astype(int), last - 1)
    rotated = 0
    for corner in np.ndindex(2, 2):
        neighbors = pixels + np.reshape(corner, (2, 1, 1))
        weights = (1 - np.abs(sources - neighbors)).prod(0)
        rows, columns = neighbors
        rotated = rotated + images[:, :, rows, columns] * to_array(weights, images)
    return rotated


ROTATION = 15.0
"""Degrees of the views "rotations": the largest ones of `data.augment: sar`."""

VIEWS: dict[str, TakeViews] = {
    "five-crop": take_crops,
    "ten-crop": lambda images, size: add_mirror_images(take_crops(images, size)),
    "mirror": lambda images, size: add_mirror_images([images]),
    "rotations": lambda images, size: add_mirror_images(
        [images, *(rotate_images(images, x) for x in (-ROTATION, ROTATION))]
    ),
    "turns": lambda images, size: [
        array_namespace(view).rot90(view, turns, (2, 3))
        for view, turns in product(add_mirror_images([images]), range(4))
    ],
}
"""The views of a chip by the value of `evaluate.tta`."""


def tta_contract(contract: Contract, evaluate: EvaluateSection) -> Contract:
    """Return the contract for test-time augmentation.

    Its size is larger by the margin of the crops.

    Args:
        contract: the contract of the bundle.
        evaluate: the section `evaluate` of the recipe.

    Returns:
        The new contract; `contract` itself if `evaluate.tta` makes no crops.
    """
    return contract.model_copy(update={"size": contract.size + evaluate.crop_margin})


def average_outputs(logits: Sequence[Any], features: Sequence[Any]) -> tuple[Any, Any]:
    """Return the mean of several predictions of the same B images.

    Args:
        logits: logits (B, C) of each prediction.
        features: features (B, D) of each prediction.

    Returns:
        The logarithm of the mean probabilities (B, C), which serves as logits, and the
        mean features (B, D).
    """
    namespace = array_namespace(logits[0])
    logs = namespace.stack([member - log_sum_exp(member, 1) for member in logits])
    mean_logits = log_sum_exp(logs, 0)[0] - math.log(len(logs))
    return mean_logits, namespace.stack(list(features)).mean(0)
