"""Speckle noise as an albumentations transform."""

from typing import Any

import albumentations as A
import numpy as np

from rsft.types import Bytes, Floats32


class Speckle(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no type hints
    """Speckle of an L-look SAR amplitude.

    The square root of unit-mean gamma noise is multiplied with the image. All planes
    get the same noise, because the planes of a repeated band are one measurement.

    Args:
        looks: lowest and highest number of looks.
        p: probability of the transform.
    """

    def __init__(self, looks: tuple[float, float], p: float) -> None:
        super().__init__(p=p)
        self.looks = looks

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draw a number of looks, and a gain (H, W, 1) for every pixel."""
        looks = self.random_generator.uniform(*self.looks)
        height, width = params["shape"][:2]
        power = self.random_generator.gamma(looks, 1 / looks, (height, width, 1))
        return {"gain": np.sqrt(power, dtype=np.float32)}

    def apply(self, img: Bytes, gain: Floats32, **params: Any) -> Bytes:
        """Multiply an image (H, W, P) by `gain` (H, W, 1)."""
        return np.asarray(np.clip(np.rint(img * gain), 0, 255), np.uint8)
