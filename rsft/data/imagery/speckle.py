"""Speckle noise as an albumentations transform."""

from functools import cache
from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from rsft.types import Bytes

_GAINS = 4096  # quantiles in place of draws from the gamma distribution, which take five times as long


@cache
def _gains(looks: int) -> NDArray[np.float32]:
    """Return equally likely gains of an L-look amplitude: square roots of quantiles of unit-mean gamma noise."""
    return np.asarray(np.sqrt(gammaincinv(looks, (np.arange(_GAINS) + 0.5) / _GAINS) / looks), np.float32)


class Speckle(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no type hints
    """Speckle of an L-look SAR amplitude: the square root of unit-mean gamma noise, multiplied with the image.

    All planes get the same noise, because the planes of a repeated band are one measurement.

    Args:
        looks: lowest and highest number of looks, integers.
        p: probability of the transform.
    """

    def __init__(self, looks: tuple[int, int], p: float) -> None:
        super().__init__(p=p)
        self.looks = looks

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw a number of looks, and a gain for every pixel: "gain" (H, W, 1) float32."""
        looks = int(self.random_generator.integers(*self.looks, endpoint=True))
        height, width = params["shape"][:2]
        return {"gain": _gains(looks)[self.random_generator.integers(0, _GAINS, (height, width, 1), np.uint16)]}

    def apply(self, img: Bytes, gain: NDArray[np.float32], **params: Any) -> Bytes:
        """Multiply an image (H, W, P) by `gain` (H, W, 1)."""
        return np.asarray(np.clip(np.rint(img * gain), 0, 255), np.uint8)
