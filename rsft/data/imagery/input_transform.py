"""How a chip becomes the input of a network: planes, stretch, size, normalization."""

from collections.abc import Sequence
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field, FiniteFloat

from rsft.data.imagery.bands import compute_planes
from rsft.data.imagery.document import StoredDocument
from rsft.data.imagery.resize import center_crop, resize_image
from rsft.data.imagery.stretch import Stretches
from rsft.data.imagery.units import convert_unit
from rsft.types import Bytes, Floats32, Pixels

MAX_INPUT_SIDE = 4096
MAX_CROP_SIDE = 8192
MAX_PLANES = 256
MAX_PLANE_LENGTH = 500
"""Limits of a contract in a bundle, which are checked before any memory is allocated:
pixels, pixels, planes, and letters of the expression of a plane."""

_MIN_DEVIATION = 5 / 255
"""Added to the standard deviation of a chip, 0-1: otherwise an empty chip would become
amplified noise."""


class InputTransform(StoredDocument):
    """How a chip becomes the input of a network.

    Attributes:
        units: units in which planes are computed, with one stretch per plane.
        planes: channels of the input, each an expression over bands; they may repeat.
        crop: side of the center crop before resizing, in pixels; None takes the whole
            chip.
        size: side of the input in pixels.
        mean: mean of each plane of the input, 0-1, or in the unit if its stretch is
            restored.
        std: standard deviation of each plane of the input, likewise.
        chip_standard: whether each chip is normalized by its own mean and standard
            deviation, over all planes and pixels, instead of by `mean` and `std`, which
            are 0 and 1 then.
    """

    units: Stretches
    planes: tuple[Annotated[str, Field(max_length=MAX_PLANE_LENGTH)], ...] = Field(
        min_length=1, max_length=MAX_PLANES
    )
    crop: int | None = Field(ge=1, le=MAX_CROP_SIDE)
    size: int = Field(ge=1, le=MAX_INPUT_SIDE)
    mean: tuple[FiniteFloat, ...]
    std: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]
    chip_standard: bool = False

    @property
    def has_equal_planes(self) -> bool:
        """Whether all planes of an image have the same bytes.

        Then they are one band, with one stretch per unit.
        """
        channels = [set(self._channels(unit)) for unit in self.units]
        return all(len(distinct) == 1 for distinct in channels)

    def _channels(self, unit: str) -> list[Any]:
        """Return the expression and the stretch of each plane."""
        return list(zip(self.planes, self.units[unit], strict=True))

    def render(
        self,
        pixels: Pixels,
        bands: Sequence[str],
        units: tuple[str, str],
        *,
        resize: bool = True,
    ) -> Bytes:
        """Return the image of a chip: stretched to bytes, cropped and resized.

        Args:
            pixels: the chip (H, W, B).
            bands: names of its bands.
            units: its unit, and the one of `units` in which planes are computed.
            resize: whether to resize; an augmentation crops first.

        Returns:
            Image (size, size, P); without `resize`, (h, w, P).
        """
        channels = self._channels(units[1])
        # a repeated band is stretched and resized once
        distinct = list(dict.fromkeys(channels))
        if all(stretch.high is not None for _, stretch in distinct):
            # otherwise the limits depend on the whole chip
            pixels = center_crop(pixels, self.crop)
        names = [plane for plane, _ in distinct]
        planes = compute_planes(convert_unit(pixels, *units), bands, names)
        stretched = [
            stretch.to_bytes(plane)
            for plane, (_, stretch) in zip(planes, distinct, strict=True)
        ]
        image = center_crop(np.stack(stretched, axis=2), self.crop)
        size = (self.size, self.size)
        if resize and image.shape[:2] != size:
            image = resize_image(image, size, by_area=min(image.shape[:2]) > self.size)
        if channels == distinct:
            return image
        positions = map(distinct.index, channels)
        merged = cv2.merge([image[:, :, position] for position in positions])
        return np.asarray(merged, np.uint8)

    def stack(self, images: Sequence[Bytes]) -> Bytes:
        """Stack n images (size, size, P); of planes with the same bytes one is kept.

        Returns:
            Bytes (n, size, size, P), or (n, size, size, 1) if all planes are the same.
        """
        planes = 1 if self.has_equal_planes else len(self.planes)
        stacked = np.empty((len(images), self.size, self.size, planes), np.uint8)
        for image, row in zip(images, stacked, strict=True):
            row[:] = image[:, :, :planes]
        return stacked

    def normalize(self, images: Sequence[Bytes]) -> Floats32:
        """Scale n images (size, size, P) to 0-1, and normalize them.

        An image (size, size, 1) has the same bytes in all planes.

        Returns:
            Network inputs (n, P, size, size).
        """
        table = self.byte_values()
        shape = (len(images), len(self.planes), self.size, self.size)
        scaled = np.empty(shape, np.float32)
        for image, planes in zip(images, scaled, strict=True):
            image = np.broadcast_to(image, (*image.shape[:2], len(planes)))
            for index, values in enumerate(table):
                cv2.LUT(image[:, :, index], values, dst=planes[index])
        return standardize_chips(scaled) if self.chip_standard else scaled

    def byte_values(self) -> Floats32:
        """Return what the bytes of each plane become: values (P, 256)."""
        mean = np.asarray(self.mean, np.float32)[:, None]
        std = np.asarray(self.std, np.float32)[:, None]
        stretches = next(iter(self.units.values()))
        scaled = np.stack([stretch.byte_values() for stretch in stretches])
        values: Floats32 = (scaled - mean) / std
        return values


def standardize_chips(inputs: Any) -> Any:
    """Normalize each of n inputs by its own mean and standard deviation.

    Args:
        inputs: arrays or tensors (n, P, S, S) in 0-1.
    """
    centered = inputs - inputs.mean((1, 2, 3), keepdims=True)
    deviation = ((centered * centered).mean((1, 2, 3), keepdims=True)) ** 0.5
    return centered / (deviation + _MIN_DEVIATION)
