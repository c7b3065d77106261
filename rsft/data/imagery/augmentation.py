"""Augmentation of byte images, seeded per chip."""

from typing import Any, Literal

import cv2
import numpy as np

from rsft.types import Bytes
from rsft.utils.dependencies import disable_telemetry

AugmentationName = Literal["none", "natural", "sar", "optical"]
"""Name of a list of transforms, the recipe key `data.augment`."""


class Augmentation:
    """A named list of random transforms.

    The result depends on the image and the seed only.

    "natural" takes a random part of the image (8 to 100 % of its area, sides 3:4 to
    4:3), resizes it, and mirrors half of the images. LIFT and metalora train in this
    way (torchvision's `RandomResizedCrop` and `RandomHorizontalFlip`). "sar" keeps the
    radar geometry: rotation by at most 15 degrees and no vertical flip, because shadow
    and layover point in fixed directions. "optical" rotates and flips freely, and
    changes brightness, contrast and (for color images) hue. "none" returns the image
    unchanged.

    Args:
        name: "none", "natural", "sar" or "optical".
        planes: number of planes of the images; hue changes with 1 or 3 planes only.
        size: side of the result of "natural" in pixels. The other lists keep the size
            of the image.
        strong: move images half as far again, and cover a square of a quarter of their
            side with their mean.

    Attributes:
        resizes: whether the list resizes its result, and so takes images of any size:
            True for "natural".

    Raises:
        ValueError: "natural" without `size`.
    """

    def __init__(
        self,
        name: AugmentationName,
        planes: int = 3,
        size: int | None = None,
        *,
        strong: bool = False,
    ) -> None:
        self.resizes = name == "natural"
        self.strong = strong
        if self.resizes and size is None:
            raise ValueError('Augmentation("natural") needs the size of its result')
        self._compose: Any = None
        if name != "none":
            # its import asks a server for the newest version otherwise
            disable_telemetry("albumentations")
            from albumentations import Compose

            strength = 1.5 if strong else 1.0
            self._compose = Compose(_transforms(name, planes, size, strength))

    @property
    def is_active(self) -> bool:
        """Whether images are changed: False for "none"."""
        return self._compose is not None

    def __call__(self, image: Bytes, seed: int) -> Bytes:
        """Augment one image (H, W, P); `seed` determines all random choices.

        Returns:
            Bytes (H, W, P), or (size, size, P) if the list resizes.
        """
        if self._compose is None:
            return image
        # one row tells color images from gray ones
        if _has_equal_planes(image[:1]) and _has_equal_planes(image):
            plane = self(image[:, :, :1], seed)
            return np.asarray(cv2.merge([plane] * image.shape[2]), np.uint8)
        self._compose.set_random_seed(seed)
        augmented = np.asarray(self._compose(image=image)["image"], np.uint8)
        # OpenCV drops the axis of one plane
        augmented = augmented.reshape(*augmented.shape[:2], -1)
        if self.strong:
            return _cover_square(augmented, seed)
        return augmented


def _has_equal_planes(image: Bytes) -> bool:
    first, *others = cv2.split(image)
    return bool(others) and all(np.array_equal(first, plane) for plane in others)


def _cover_square(image: Bytes, seed: int) -> Bytes:
    """Replace a random square by the mean of each plane (DeVries and Taylor 2017).

    Its side is a quarter of the shorter side of the image.
    """
    side = min(image.shape[:2]) // 4
    ends = np.array(image.shape[:2]) - side + 1
    top, left = np.random.default_rng(seed).integers(0, ends)
    covered = image.copy()
    covered[top : top + side, left : left + side] = image.mean((0, 1))
    return covered


def _transforms(
    name: AugmentationName, planes: int, size: int | None, strength: float
) -> list[Any]:
    import albumentations as library

    if name == "natural":
        ranges: dict[str, Any] = {"scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)}
        crop = library.RandomResizedCrop(
            (size, size), area_for_downscale="image", **ranges
        )
        return [crop, library.HorizontalFlip(p=0.5)]
    reach = 0.08 * strength
    angle = 15 * strength
    shift: dict[str, Any] = {
        "translate_percent": (-reach, reach),
        "border_mode": cv2.BORDER_REFLECT_101,
    }
    if name == "sar":
        from rsft.data.imagery.speckle import Speckle

        zoom = 0.15 * strength
        return [
            library.HorizontalFlip(p=0.5),
            library.Affine(
                scale=(1 - zoom, 1 + zoom), rotate=(-angle, angle), p=0.9, **shift
            ),
            library.RandomBrightnessContrast(0.15, 0.15, p=0.5),
            Speckle(looks=(6, 30), p=0.5),
        ]
    colors = library.RandomBrightnessContrast(0.2, 0.2, p=0.5)
    if planes in (1, 3):
        colors = library.ColorJitter(0.2, 0.2, 0.2, 0.03, p=0.5)
    zoom = 0.2 * strength
    return [
        library.D4(p=1.0),
        library.Affine(scale=(1 - zoom, 1 + zoom), p=0.7, **shift),
        colors,
    ]
