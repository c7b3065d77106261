"""Augmentation of byte images, seeded per chip.

Speckle noise as an albumentations transform.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from rsft.types import Bytes
from rsft.utils.dependencies import disable_telemetry

AugmentationName = Literal["none", "natural", "sar", "optical"]
"""Name of a list of transforms, the recipe key `data.augment`."""


class Augmentation:
    """A named list of random transforms. The result depends on the image and the seed only.

    "natural" takes a random part of the image (8 to 100 % of its area, sides 3:4 to 4:3), resizes it, and mirrors half
    of the images. LIFT and metalora train in this way (torchvision's `RandomResizedCrop` and `RandomHorizontalFlip`).
    "sar" keeps the radar geometry: rotation by at most 15 degrees and no vertical flip, because shadow and layover
    point in fixed directions. "optical" rotates and flips freely, and changes brightness, contrast and (for color
    images) hue. "none" returns the image unchanged.

    Args:
        name: "none", "natural", "sar" or "optical".
        planes: number of planes of the images; hue changes with 1 or 3 planes only.
        size: side of the result of "natural" in pixels. The other lists keep the size of the image.

    Attributes:
        resizes: whether the list resizes its result, and so takes images of any size: True for "natural".

    Raises:
        ValueError: "natural" without `size`.
    """

    def __init__(self, name: AugmentationName, planes: int = 3, size: int | None = None) -> None:
        self.resizes = name == "natural"
        if self.resizes and size is None:
            raise ValueError('Augmentation("natural") needs the size of its result')
        self._compose: Any = None
        if name != "none":
            library = _import_albumentations()
            self._compose = library.Compose(_transforms(library, name, planes, size))

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
            Bytes (H, W, P), or (size, size, P) if the list resizes.
        """
        if self._compose is None:
            return image
        self._compose.set_random_seed(seed)
        augmented = np.asarray(self._compose(image=image)["image"], np.uint8)
        return augmented.reshape(*augmented.shape[:2], -1)  # OpenCV drops the axis of one plane


def _import_albumentations() -> ModuleType:
    """Import albumentations without the web request for its newest version, which the import makes by default."""
    disable_telemetry("albumentations")
    import albumentations

    return albumentations  # type: ignore[no-any-return]


def _transforms(library: ModuleType, name: AugmentationName, planes: int, size: int | None) -> list[Any]:
    if name == "natural":
        return _natural_transforms(library, size)
    return _sar_transforms(library) if name == "sar" else _optical_transforms(library, planes)


def _natural_transforms(library: ModuleType, size: int | None) -> list[Any]:
    crop = library.RandomResizedCrop((size, size), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3), area_for_downscale="image")
    return [crop, library.HorizontalFlip(p=0.5)]


def _sar_transforms(library: ModuleType) -> list[Any]:

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


class Speckle(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no type hints
    """Speckle of an L-look SAR amplitude: the square root of unit-mean gamma noise, multiplied with the image.

    All planes get the same noise, because the planes of a repeated band are one measurement.

    Args:
        looks: lowest and highest number of looks.
        p: probability of the transform.
    """

    def __init__(self, looks: tuple[float, float], p: float) -> None:
        super().__init__(p=p)
        self.looks = looks

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw a number of looks, and a gain for every pixel.

        Args:
            params: parameters of the transform, with the "shape" of the image.
            data: the image and its targets (unused).

        Returns:
            "gain" (H, W, 1) float32.
        """
        looks = self.random_generator.uniform(*self.looks)
        height, width = params["shape"][:2]
        return {"gain": np.sqrt(self.random_generator.gamma(looks, 1 / looks, (height, width, 1)), dtype=np.float32)}

    def apply(self, img: Bytes, gain: NDArray[np.float32], **params: Any) -> Bytes:
        """Multiply an image (H, W, P) by `gain` (H, W, 1).

        Args:
            img: bytes (H, W, P).
            gain: factor of every pixel (H, W, 1).
            **params: other parameters of the transform (unused).

        Returns:
            Bytes (H, W, P).
        """
        return np.asarray(np.clip(np.rint(img * gain), 0, 255), np.uint8)
