"""The contract between pixels and network: what a chip must be, and how it becomes an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from rsft.errors import DataError

Limits = tuple[float, float]  # the pixel values that become 0 and 255
Pixels = NDArray[Any]  # (H, W, B), B bands in the order that `bands` names

NUMBER_TYPE = {"uint8": np.dtype("uint8"), "uint16": np.dtype("uint16")} | dict.fromkeys(
    ("amplitude", "intensity", "sigma0", "db"), np.dtype("float32")
)
"""Every unit a chip may have, with the number type that carries it on disk; float pixels must say which they are."""

STRETCHED = ("uint8", "uint16")
"""The units that a network can take today."""


class Contract(BaseModel):
    """What a model was trained on; a chip that breaks it is refused, never guessed at.

    Attributes:
        units: each accepted unit with the pixel values that become 0 and 255 (a fixed linear stretch).
        bands: names of the bands, in order.
        crop: side in pixels of the centre crop taken before resizing; None takes the whole chip.
        size: side of the network's input in pixels.
        mean, std: of the network's three inputs, in 0-1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: dict[str, Limits]
    bands: tuple[str, ...]
    crop: int | None
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def check(self, pixels: Pixels) -> str:
        """Return the unit of `pixels` (H, W, B).

        Raises:
            DataError: number type or number of bands differ from those of the contract, or no network takes the unit.
        """
        found = pixels.shape[2]
        if found != len(self.bands):
            raise DataError(f"{found} bands, but the model takes {len(self.bands)} ({', '.join(self.bands)})")
        for unit in self.units:
            check_stretched(unit)
            if NUMBER_TYPE[unit] == pixels.dtype:
                return unit
        raise DataError(f"{pixels.dtype} pixels, but the model takes {' or '.join(self.units)}")

    def to_image(self, pixels: Pixels) -> NDArray[np.uint8]:
        """Check, crop, stretch to bytes, resize and repeat a single band: (H, W, B) -> (size, size, 3)."""
        low, high = self.units[self.check(pixels)]
        pixels = centre_crop(pixels, self.crop)
        if (low, high) != (0, 255) or pixels.dtype != np.uint8:
            scaled = (pixels.astype(np.float32) - low) * (255.0 / (high - low))
            pixels = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
        image = self._resize(pixels)
        return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image

    def _resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, B) -> (size, size, B), area-averaged when shrinking."""
        if image.shape[:2] == (self.size, self.size):
            return image
        shrinking = min(image.shape[:2]) > self.size
        method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        resized = cv2.resize(image, (self.size, self.size), interpolation=method)
        return np.asarray(resized, np.uint8).reshape(self.size, self.size, -1)  # OpenCV drops a single band

    def normalise(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """n images (size, size, 3) -> (n, 3, size, size) float32, zero mean and unit variance by `mean` and `std`."""
        mean, std = np.asarray(self.mean, np.float32)[:, None], np.asarray(self.std, np.float32)[:, None]
        table = (np.arange(256, dtype=np.float32) / np.float32(255) - mean) / std  # (3, 256): bytes have few values
        scaled = np.empty((len(images), 3, self.size, self.size), np.float32)
        for image, planes in zip(images, scaled, strict=True):
            for plane, values, out in zip(cv2.split(image), table, planes, strict=True):
                cv2.LUT(plane, values, dst=out)
        return scaled

    def to_input(self, pixels: Pixels) -> NDArray[np.float32]:
        """A chip as the network takes it, without augmentation: (H, W, B) -> (3, size, size)."""
        inputs: NDArray[np.float32] = self.normalise([self.to_image(pixels)])[0]
        return inputs


def check_stretched(unit: str) -> None:
    """Refuse a unit that can be stored but not yet stretched to bytes.

    Raises:
        DataError: it is none of STRETCHED.
    """
    if unit not in STRETCHED:
        raise DataError(
            f"chips in {unit} cannot be given to a network yet",
            fix=f"prepare them as {' or '.join(STRETCHED)}",
        )


def centre_crop(pixels: Pixels, side: int | None) -> Pixels:
    """The middle `side` x `side` pixels, or all of them where the chip is smaller."""
    if side is None:
        return pixels
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]
