"""The contract between pixels and network: what a chip must be, and how it becomes an input."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from rsft.data.imagery.bands import compute_planes
from rsft.data.imagery.stretch import Statistics, Stretch
from rsft.data.imagery.units import DIGITAL_UNITS, can_convert, check_unit, conversion_hint, convert_unit
from rsft.errors import DataError
from rsft.types import Pixels

SPACING_TOLERANCE = 0.1
"""Pixels of another size by more than this share are refused: augmentation scales by up to 15 %."""


class Contract(BaseModel):
    """What a model was trained on; a chip that breaks it is refused, never guessed at.

    Attributes:
        units: the units that planes are computed in, each with the stretch of every plane; a chip in another unit is
            converted to the first one that it can become.
        digital: what the digital numbers of uint8 and uint16 chips are; None where they are just that.
        bands: names of a chip's bands, in order.
        planes: what the network sees, each an expression over bands; one may come more than once.
        crop: side in pixels of the centre crop taken before resizing; None takes the whole chip.
        size: side of the network's input in pixels.
        mean, std: of the network's inputs, one a plane, in 0-1.
        statistics: of the training chips by unit, where a stretch was measured.
        spacing_m: metres a pixel of the training chips; None where they do not say, or disagree.
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

    def select_bands(self, pixels: Pixels, bands: Sequence[str] | None) -> Pixels:
        """The contract's bands out of a chip (H, W, B) whose own are named, or all of them where they are not.

        Raises:
            DataError: another number than names, or a band that is missing.
        """
        if bands is None:
            return pixels
        if len(bands) != pixels.shape[2]:
            fix = "name every band of the file, in its order: --bands"
            raise DataError(f"{pixels.shape[2]} bands, but {len(bands)} names ({', '.join(bands)})", hint=fix)
        missing = [band for band in self.bands if band not in bands]
        if missing:
            fix = "name the bands as they are, in the order of the file: --bands"
            raise DataError(f"bands {', '.join(bands)}, but the model takes {', '.join(self.bands)}", hint=fix)
        return pixels if tuple(bands) == self.bands else pixels[:, :, [bands.index(band) for band in self.bands]]

    def check(self, pixels: Pixels, unit: str | None = None) -> tuple[str, str]:
        """The unit of `pixels` (H, W, B), which integers carry in their number type, and the one to compute in.

        Raises:
            DataError: the bands or the unit are not those of the contract, or the values cannot be in that unit.
        """
        unit, wanted = self.check_header(str(pixels.dtype), pixels.shape[2], unit)
        check_unit(pixels, unit)
        return unit, wanted

    def check_header(self, number_type: str, bands: int, unit: str | None = None) -> tuple[str, str]:
        """The same of a file whose pixels are not read yet.

        Raises:
            DataError: the bands or the unit are not those of the contract.
        """
        if bands != len(self.bands):
            what = f"{bands} bands, but the model takes {len(self.bands)} ({', '.join(self.bands)})"
            raise DataError(what, hint="name the bands of the file, in its order: --bands")
        accepted = " or ".join(self.units)
        unit = unit or (number_type if number_type in DIGITAL_UNITS else None)
        unit = self.digital or unit if unit in DIGITAL_UNITS else unit
        if unit is None:
            fix = f"declare the unit that the chips have, for instance --unit {next(iter(self.units))}"
            raise DataError(f"{number_type} pixels of no declared unit, but the model takes {accepted}", hint=fix)
        wanted = next((each for each in (unit, *self.units) if each in self.units and can_convert(unit, each)), None)
        if wanted is None:
            fix = f"{conversion_hint(unit, next(iter(self.units)))} (--unit)"
            raise DataError(f"{unit} pixels, but the model takes {accepted}", hint=fix)
        return unit, wanted

    def check_spacing(self, found: Sequence[float]) -> None:
        """Whether pixels of so many metres, down and along, have the size of the training chips'; yes if they say none.

        Raises:
            DataError: they are larger or smaller by more than SPACING_TOLERANCE.
        """
        wanted = self.spacing_m
        if wanted is not None and any(abs(metres / wanted - 1) > SPACING_TOLERANCE for metres in found):
            there = " x ".join(dict.fromkeys(f"{metres:.4g}" for metres in found))
            what = f"pixels of {there} m, but the model was trained on {wanted:.4g} m"
            raise DataError(what, hint=f"resample them: --resample-to {wanted:g}")

    def to_image(self, pixels: Pixels, unit: str | None = None) -> NDArray[np.uint8]:
        """Check, convert, compute the planes, stretch to bytes, crop and resize: (H, W, B) -> (size, size, P).

        Raises:
            DataError: see `check`.
        """
        unit, wanted = self.check(pixels, unit)
        wishes = list(zip(self.planes, self.units[wanted], strict=True))
        distinct = list(dict.fromkeys(wishes))  # a repeated band is stretched and resized once
        if all(stretch.high is not None for _, stretch in distinct):  # else the whole chip decides
            pixels = center_crop(pixels, self.crop)
        planes = compute_planes(convert_unit(pixels, unit, wanted), self.bands, [plane for plane, _ in distinct])
        stretched = [stretch.to_bytes(plane) for plane, (_, stretch) in zip(planes, distinct, strict=True)]
        image = self._resize(center_crop(np.stack(stretched, axis=2), self.crop))
        return image if distinct == wishes else image[:, :, [distinct.index(wish) for wish in wishes]]

    def _resize(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, P) -> (size, size, P), area-averaged when shrinking."""
        if image.shape[:2] == (self.size, self.size):
            return image
        shrinking = min(image.shape[:2]) > self.size
        method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        resized = cv2.resize(image, (self.size, self.size), interpolation=method)
        return np.asarray(resized, np.uint8).reshape(self.size, self.size, -1)  # OpenCV drops a single band

    def normalize(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """n images (size, size, P) -> (n, P, size, size) float32, zero mean and unit variance by `mean` and `std`."""
        mean, std = np.asarray(self.mean, np.float32)[:, None], np.asarray(self.std, np.float32)[:, None]
        table = (np.arange(256, dtype=np.float32) / np.float32(255) - mean) / std  # (P, 256): bytes have few values
        scaled = np.empty((len(images), len(self.planes), self.size, self.size), np.float32)
        for image, planes in zip(images, scaled, strict=True):
            for plane, values, out in zip(np.moveaxis(image, 2, 0), table, planes, strict=True):
                cv2.LUT(plane, values, dst=out)
        return scaled

    def to_input(self, pixels: Pixels, unit: str | None = None) -> NDArray[np.float32]:
        """A chip as the network takes it, without augmentation: (H, W, B) -> (P, size, size)."""
        inputs: NDArray[np.float32] = self.normalize([self.to_image(pixels, unit)])[0]
        return inputs


def center_crop(pixels: Pixels, side: int | None) -> Pixels:
    """The middle `side` x `side` pixels, or all of them where the chip is smaller."""
    if side is None:
        return pixels
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]
