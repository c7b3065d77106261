"""Contract between pixels and network: what a chip must be, and how it becomes the network's input."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from rsft.data.imagery.bands import compute_planes, required_bands
from rsft.data.imagery.stretch import Statistics, Stretch
from rsft.data.imagery.units import (
    DIGITAL_UNITS,
    can_convert,
    check_dtype,
    check_unit,
    conversion_hint,
    convert_unit,
    parse_unit,
)
from rsft.errors import DataError
from rsft.types import Bytes, Pixels

_BANDS = 4  # of images that OpenCV shrinks by area averaging, unless each side shrinks by a whole factor


def resize_image(image: Pixels, size: tuple[int, int], *, by_area: bool) -> Pixels:
    """Resize an image by area averaging, or by bilinear interpolation.

    Args:
        image: (h, w, B).
        size: H and W.
        by_area: whether to average areas, for images that shrink.

    Returns:
        Image (H, W, B) of the same data type.
    """
    method = cv2.INTER_AREA if by_area else cv2.INTER_LINEAR
    is_divided = any(side % new_side for side, new_side in zip(image.shape[:2], size, strict=True))
    count = _BANDS if by_area and is_divided else image.shape[2]
    groups = [np.ascontiguousarray(image[:, :, start : start + count]) for start in range(0, image.shape[2], count)]
    resized = [cv2.resize(group, size[::-1], interpolation=method).reshape(*size, -1) for group in groups]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, axis=2)


SPACING_TOLERANCE = 0.1
"""Largest accepted relative difference of the pixel spacing. Augmentation scales by 15 % (sar) or 20 % (optical)."""


class Contract(BaseModel):
    """Properties of the chips that a model was trained on. A chip that does not match is an error, never a guess.

    Attributes:
        units: units in which planes are computed, with one stretch per plane. A chip in another unit is converted to
            the first of them to which a conversion exists.
        digital: meaning of the digital numbers of uint8 and uint16 chips, such as "amplitude"; None if unknown.
        bands: names of the bands of the training chips, in the order of their files. A chip needs only `used_bands`.
        planes: channels of the network's input, each an expression over bands; they may repeat.
        crop: side of the center crop before resizing, in pixels; None takes the whole chip.
        size: side of the network's input in pixels.
        mean: mean of each plane of the network's input, 0-1.
        std: standard deviation of each plane of the network's input, 0-1.
        statistics: statistics of each plane of the training chips, by unit, if a stretch was measured.
        spacing_m: pixel spacing of the training chips in meters; None if it varies, or is unknown for half of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: dict[str, tuple[Stretch, ...]]
    digital: str | None = None
    bands: tuple[str, ...]
    planes: tuple[str, ...]
    crop: int | None
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    statistics: dict[str, tuple[Statistics, ...]] = {}
    spacing_m: float | None = None

    @property
    def used_bands(self) -> tuple[str, ...]:
        """Names of the bands that the planes are computed from, in the order of `bands`. A chip needs no others."""
        return _used_bands(self.planes, self.bands)

    def band_indices(self, count: int, names: Sequence[str] | None) -> list[int]:
        """Return where a file has the bands that the planes are computed from.

        Args:
            count: number of bands of the file.
            names: names of its bands. Without names, a file with as many bands as the training chips has them in the
                same order, and all bands of any other file are returned.

        Returns:
            Indices of `used_bands` in the file, from 0.

        Raises:
            DataError: the number of names does not match, or a band is missing.
        """
        used = self.used_bands
        if names is not None and len(names) != count:
            hint = "give one name per band of the file, in its order, with --bands"
            raise DataError(f"{count} bands, but {len(names)} names ({', '.join(names)})", hint=hint)
        if names is None or (used == ("gray",) and count == 1):
            return [self.bands.index(band) for band in used] if count == len(self.bands) else list(range(count))
        if not set(used) <= set(names):
            hint = "give the names of the bands, in the order of the file, with --bands"
            raise DataError(f"bands {', '.join(names)}, but the model takes {', '.join(used)}", hint=hint)
        return [names.index(band) for band in used]

    def select_bands(self, pixels: Pixels, bands: Sequence[str] | None) -> Pixels:
        """Select the bands that the planes are computed from.

        Args:
            pixels: the chip (H, W, B).
            bands: names of its bands; None if they are unknown, see `band_indices`.

        Returns:
            Pixels (H, W, B) with `used_bands`, in order.

        Raises:
            DataError: the number of names does not match, or a band is missing.
        """
        indices = self.band_indices(pixels.shape[2], bands)
        return pixels if indices == list(range(pixels.shape[2])) else pixels[:, :, indices]

    def check(self, pixels: Pixels, unit: str | None = None) -> tuple[str, str]:
        """Check a chip against the contract.

        Args:
            pixels: the chip (H, W, B) with `used_bands`, or with `bands`.
            unit: declared unit; integers default to `digital`, or to their data type if it is None.

        Returns:
            Unit of the chip, and the unit in which its planes are computed.

        Raises:
            DataError: the bands or the unit do not match, or the values cannot be in this unit.
        """
        unit, target_unit = self.check_header(str(pixels.dtype), pixels.shape[2], unit)
        check_unit(pixels, unit)
        return unit, target_unit

    def check_header(self, dtype: str, bands: int, unit: str | None = None) -> tuple[str, str]:
        """Check the data type, the number of bands and the unit of a file before its pixels are read.

        Args:
            dtype: data type of the pixels, such as "uint16".
            bands: number of bands.
            unit: declared unit; integers default to `digital`, or to their data type if it is None.

        Returns:
            Unit of the chip, and the unit in which its planes are computed.

        Raises:
            DataError: the number of bands or the unit does not match, or the data type cannot carry the unit.
        """
        used = self.used_bands
        if bands not in (len(used), len(self.bands)):
            message = f"{bands} bands, but the model takes {len(used)} ({', '.join(used)})"
            raise DataError(message, hint="give the names of the bands, in the order of the file, with --bands")
        accepted = " or ".join(self.units)
        unit = parse_unit(unit) if unit else dtype if dtype in DIGITAL_UNITS else None
        unit = self.digital or unit if unit in DIGITAL_UNITS else unit
        if unit is None:
            hint = f"declare the unit of the chips, for instance --unit {next(iter(self.units))}"
            raise DataError(f"{dtype} pixels without a declared unit, but the model takes {accepted}", hint=hint)
        check_dtype(dtype, unit)
        targets = (target for target in (unit, *self.units) if target in self.units and can_convert(unit, target))
        target_unit = next(targets, None)
        if target_unit is None:
            hint = f"{conversion_hint(unit, next(iter(self.units)))} (--unit)"
            raise DataError(f"{unit} pixels, but the model takes {accepted}", hint=hint)
        return unit, target_unit

    def check_spacing(self, spacing: Sequence[float]) -> None:
        """Raise an error if the pixel spacing differs from that of the training chips.

        Every spacing is accepted if that of the training chips is unknown.

        Args:
            spacing: meters per pixel along rows and columns.

        Raises:
            DataError: the relative difference is larger than SPACING_TOLERANCE.
        """
        expected = self.spacing_m
        if expected is not None and any(abs(meters / expected - 1) > SPACING_TOLERANCE for meters in spacing):
            actual = " x ".join(dict.fromkeys(f"{meters:.4g}" for meters in spacing))
            message = f"pixels of {actual} m, but the model was trained on {expected:.4g} m"
            raise DataError(message, hint=f"resample them: --resample-to {expected:g}")

    def to_image(self, pixels: Pixels, unit: str | None = None) -> Bytes:
        """Check a chip, convert its unit, compute the planes, stretch them to bytes, crop and resize; see `check`.

        Returns:
            Image (size, size, P).

        Raises:
            DataError: see `check`.
        """
        image, indices = self._distinct_planes(pixels, unit)
        if image.shape[:2] != (self.size, self.size):
            image = resize_image(image, (self.size, self.size), by_area=min(image.shape[:2]) > self.size)
        return _select_planes(image, indices)

    def to_full_size_image(self, pixels: Pixels, unit: str | None = None) -> Bytes:
        """Do the same as `to_image` without resizing, for an augmentation that crops before it resizes.

        Returns:
            Image (h, w, P); the center crop if the contract has one, else (H, W, P).

        Raises:
            DataError: see `check`.
        """
        return _select_planes(*self._distinct_planes(pixels, unit))

    def _distinct_planes(self, pixels: Pixels, unit: str | None) -> tuple[Bytes, list[int]]:
        """Return every plane once, stretched and cropped (h, w, Q), and the index of each plane of the input in it."""
        pixels = self.select_bands(pixels, None)
        unit, target_unit = self.check(pixels, unit)
        channels = list(zip(self.planes, self.units[target_unit], strict=True))
        distinct = list(dict.fromkeys(channels))  # a repeated band is stretched and resized once
        if all(stretch.high is not None for _, stretch in distinct):  # otherwise the limits depend on the whole chip
            pixels = center_crop(pixels, self.crop)
        names = [plane for plane, _ in distinct]
        planes = compute_planes(convert_unit(pixels, unit, target_unit), self.used_bands, names)
        stretched = [stretch.to_bytes(plane) for plane, (_, stretch) in zip(planes, distinct, strict=True)]
        return center_crop(np.stack(stretched, axis=2), self.crop), [distinct.index(channel) for channel in channels]

    def normalize(self, images: Sequence[Bytes]) -> NDArray[np.float32]:
        """Scale images to 0-1, and normalize them by `mean` and `std`.

        Args:
            images: n images (size, size, P).

        Returns:
            Network inputs (n, P, size, size).
        """
        table = self.byte_values()
        scaled = np.empty((len(images), len(self.planes), self.size, self.size), np.float32)
        for image, planes in zip(images, scaled, strict=True):
            for plane, values, out in zip(np.moveaxis(image, 2, 0), table, planes, strict=True):
                cv2.LUT(plane, values, dst=out)
        return scaled

    def byte_values(self) -> NDArray[np.float32]:
        """Return the values of the network's input that the bytes of each plane become, (P, 256)."""
        mean, std = np.asarray(self.mean, np.float32)[:, None], np.asarray(self.std, np.float32)[:, None]
        values: NDArray[np.float32] = (np.arange(256, dtype=np.float32) / np.float32(255) - mean) / std
        return values

    def to_input(self, pixels: Pixels, unit: str | None = None) -> NDArray[np.float32]:
        """Convert a chip to the network's input, without augmentation.

        Returns:
            Network input (P, size, size).
        """
        inputs: NDArray[np.float32] = self.normalize([self.to_image(pixels, unit)])[0]
        return inputs


@lru_cache(maxsize=256)
def _used_bands(planes: tuple[str, ...], bands: tuple[str, ...]) -> tuple[str, ...]:
    required = set().union(*map(required_bands, planes))
    return tuple(band for band in bands if band in required) or bands


def center_crop(pixels: Pixels, side: int | None) -> Pixels:
    """Crop the center of a chip.

    Args:
        pixels: the chip (H, W, B).
        side: side of the crop in pixels; None returns the whole chip.

    Returns:
        A view of at most `side` x `side` pixels.
    """
    if side is None:
        return pixels
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def _select_planes(image: Bytes, indices: list[int]) -> Bytes:
    return image if indices == list(range(image.shape[2])) else image[:, :, indices]
