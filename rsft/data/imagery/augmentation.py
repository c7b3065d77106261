"""Augmentation of byte images, seeded per chip."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any, Literal

import cv2
import numpy as np

from rsft.types import Bytes


class Augmentation:
    """A named list of random transforms. The result depends on the image and the seed only.

    "sar" keeps the radar geometry: rotation by at most 15 degrees and no vertical flip, because shadow and layover
    point in fixed directions. "optical" rotates and flips freely, and changes brightness, contrast and (for color
    images) hue. "none" returns the image unchanged.

    Args:
        name: "none", "sar" or "optical".
        planes: number of planes of the images; hue changes with 1 or 3 planes only.
    """

    def __init__(self, name: Literal["none", "sar", "optical"], planes: int = 3) -> None:
        self._compose: Any = None
        if name != "none":
            library = _import_albumentations()
            transforms = _sar_transforms(library) if name == "sar" else _optical_transforms(library, planes)
            self._compose = library.Compose(transforms)

    @property
    def is_active(self) -> bool:
        """Whether images are changed: False for "none"."""
        return self._compose is not None

    def __call__(self, image: Bytes, seed: int) -> Bytes:
        """Augment one image.

        Args:
            image: bytes (H, W, P).
            seed: seed of all random choices.

        Returns:
            Bytes (H, W, P).
        """
        if self._compose is None:
            return image
        self._compose.set_random_seed(seed)
        return np.asarray(self._compose(image=image)["image"], np.uint8)


def _import_albumentations() -> ModuleType:
    """Import albumentations without the web request for its newest version, which the import makes by default."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # stays set for worker processes, which import it too
    import albumentations

    return albumentations  # type: ignore[no-any-return]


def _sar_transforms(library: ModuleType) -> list[Any]:
    from rsft.data.imagery.speckle import Speckle

    return [
        library.HorizontalFlip(p=0.5),
        library.Affine(
            scale=(0.85, 1.15),
            translate_percent=(-0.08, 0.08),
            rotate=(-15, 15),
            border_mode=cv2.BORDER_REFLECT_101,
            p=0.9,
        ),
        library.RandomBrightnessContrast(0.15, 0.15, p=0.5),
        Speckle(looks=(6, 30), p=0.5),
    ]


def _optical_transforms(library: ModuleType, planes: int) -> list[Any]:
    return [
        library.D4(p=1.0),
        library.Affine(scale=(0.8, 1.2), translate_percent=(-0.08, 0.08), border_mode=cv2.BORDER_REFLECT_101, p=0.7),
        library.ColorJitter(0.2, 0.2, 0.2, 0.03, p=0.5)
        if planes in (1, 3)
        else library.RandomBrightnessContrast(0.2, 0.2, p=0.5),
    ]
