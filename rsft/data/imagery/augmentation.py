"""Augmentation of byte images, seeded chip by chip: the one place that knows albumentations."""

from __future__ import annotations

import os
from typing import Any, Literal

from rsft.types import Bytes

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would otherwise ask a server for its newest version

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray


class Speckle(A.ImageOnlyTransform):  # type: ignore[misc]  # the library is not typed
    """Multiply by the square root of unit-mean gamma noise: the speckle of an L-look SAR amplitude.

    The noise is the same in every plane, since those of a repeated single band are one measurement.
    """

    def __init__(self, looks: tuple[float, float], p: float) -> None:
        super().__init__(p=p)
        self.looks = looks

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw a number of looks and an intensity for every pixel."""
        looks = self.random_generator.uniform(*self.looks)
        height, width = params["shape"][:2]
        return {"gain": np.sqrt(self.random_generator.gamma(looks, 1 / looks, (height, width, 1)), dtype=np.float32)}

    def apply(self, img: Bytes, gain: NDArray[np.float32], **params: Any) -> Bytes:
        """(H, W, 3) -> (H, W, 3)."""
        return np.asarray(np.clip(np.rint(img * gain), 0, 255), np.uint8)


class Augmentation:
    """A named list of transforms; `seed` alone decides what is drawn, whatever ran before it.

    "sar" keeps the radar geometry (no turn beyond 15 degrees, no vertical flip: shadow and layover have a side);
    "optical" turns and flips freely and changes the light, and the colour where there are `planes` of it; "none"
    returns the image.
    """

    def __init__(self, name: Literal["none", "sar", "optical"], planes: int = 3) -> None:
        transforms = {"none": [], "sar": _sar(), "optical": _optical(planes)}[name]
        self._compose = A.Compose(transforms) if transforms else None

    @property
    def changes(self) -> bool:
        """Whether an image comes back as another one."""
        return self._compose is not None

    def __call__(self, image: Bytes, seed: int) -> Bytes:
        """(H, W, P) bytes -> (H, W, P) bytes."""
        if self._compose is None:
            return image
        self._compose.set_random_seed(seed)
        return np.asarray(self._compose(image=image)["image"], np.uint8)


def _sar() -> list[A.BasicTransform]:
    return [
        A.HorizontalFlip(p=0.5),
        A.Affine(
            scale=(0.85, 1.15),
            translate_percent=(-0.08, 0.08),
            rotate=(-15, 15),
            border_mode=cv2.BORDER_REFLECT_101,
            p=0.9,
        ),
        A.RandomBrightnessContrast(0.15, 0.15, p=0.5),
        Speckle(looks=(6, 30), p=0.5),
    ]


def _optical(planes: int) -> list[A.BasicTransform]:
    light = (
        A.ColorJitter(0.2, 0.2, 0.2, 0.03, p=0.5) if planes in (1, 3) else A.RandomBrightnessContrast(0.2, 0.2, p=0.5)
    )
    return [
        A.D4(p=1.0),
        A.Affine(scale=(0.8, 1.2), translate_percent=(-0.08, 0.08), border_mode=cv2.BORDER_REFLECT_101, p=0.7),
        light,
    ]
