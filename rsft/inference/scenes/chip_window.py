"""How large a chip is around a place, so that a network sees objects at the size that it was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from rsft.data.imagery.contract import Contract
from rsft.errors import DataError, RequestError
from rsft.inference.scenes.locations import Place
from rsft.inference.scenes.raster import Block, Scene
from rsft.types import Pixels

_NUDGE = 1e-3  # pixels: on its way through degrees a position loses less, and must not fall into the pixel before


@dataclass(frozen=True)
class Wishes:
    """What the user says of chips, beside the contract; None where nothing is said.

    Attributes:
        side: of a chip, in pixels.
        margin: pixels around a box instead, which is then cut as it is.
        resample_to: metres a pixel, to which chips are brought.
        spacing: metres a pixel of images that do not say it.
    """

    side: int | None = None
    margin: int | None = None
    resample_to: float | None = None
    spacing: float | None = None


@dataclass(frozen=True)
class Framing:
    """From a place to the window of its chip.

    Attributes:
        side: of the chip in its own pixels; None cuts boxes as they are.
        margin: around boxes, in the chip's pixels.
        scale: pixels of the scene to one of the chip, down and along; 1 where nothing is resampled.
    """

    side: int | None
    margin: int
    scale: tuple[float, float]

    def size(self, place: Place) -> tuple[int, int]:
        """Height and width of the chip in its own pixels."""
        if self.side is not None:
            return self.side, self.side
        assert place.box is not None
        high, wide = np.ptp(np.reshape(place.box, (4, 2)), axis=0) / self.scale
        return max(1, round(high) + 2 * self.margin), max(1, round(wide) + 2 * self.margin)

    def block(self, place: Place) -> Block:
        """The window of the scene."""
        high, wide = (max(1, round(side * scale)) for side, scale in zip(self.size(place), self.scale, strict=True))
        top, left = math.floor(place.row + _NUDGE) - high // 2, math.floor(place.col + _NUDGE) - wide // 2
        return Block(top, left, top + high, left + wide)

    def chip(self, window: Pixels, place: Place) -> Pixels:
        """The window of `block`, resampled where that is wanted: (h, w, B) -> (H, W, B)."""
        return resize(window, self.size(place))


def framing(contract: Contract, scene: Scene, wishes: Wishes, points: bool) -> Framing:
    """How chips are cut from `scene`: the side is the contract's crop, if nothing else is said.

    Args:
        points: whether some place has no box.

    Raises:
        RequestError: no size is known, or one that the model does not take.
        DataError: pixels of another size than the model was trained on.
    """
    side = None if wishes.margin is not None else wishes.side or contract.crop
    if wishes.margin is not None and points:
        raise RequestError("a margin is around a box, but some positions are points", "--margin", "give --side instead")
    if side is None and wishes.margin is None:
        what = "the model was trained on whole chips of no fixed size"
        raise RequestError(what, "--side", "give the side of a chip in pixels, or --margin 0 to cut boxes as they are")
    if side is not None and contract.crop is not None and side < contract.crop:
        what = f"chips of {side} pixels, but the model looks at {contract.crop}"
        raise RequestError(what, "--side", f"give --side {contract.crop}, or more")
    try:
        scale = check_scale(contract, spacing_of(scene.spacing, wishes), wishes)
    except DataError as error:
        raise DataError(error.what, scene.path, error.fix) from error
    return Framing(side, wishes.margin or 0, scale)


def spacing_of(known: tuple[float, float] | None, wishes: Wishes) -> tuple[float, float] | None:
    """Metres a pixel: what the image says, else what the user does."""
    return known or (None if wishes.spacing is None else (wishes.spacing, wishes.spacing))


def check_scale(contract: Contract, found: tuple[float, float] | None, wishes: Wishes) -> tuple[float, float]:
    """Pixels of the image to one of the chip, down and along.

    Raises:
        DataError: the sizes disagree and no resampling is asked for, or it is to what the model was not trained on, or
            from pixels whose size is not known.
    """
    if wishes.resample_to is None:
        if found is not None:
            contract.check_spacing(found)
        return 1.0, 1.0
    contract.check_spacing([wishes.resample_to])
    if found is None:
        what = f"pixels of unknown size cannot become {wishes.resample_to:g} m"
        raise DataError(what, fix="say their size in metres: --spacing 10")
    down, along = (wishes.resample_to / metres for metres in found)
    return down, along


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(h, w, B) -> (H, W, B), area-averaged when shrinking; the same where the size is."""
    if pixels.shape[:2] == size:
        return pixels
    if pixels.dtype not in (np.uint8, np.uint16, np.int16, np.float32, np.float64):
        raise DataError(f"{pixels.dtype} pixels cannot be resampled", fix="give uint8, uint16 or float32")
    shrinking = pixels.shape[0] >= size[0] and pixels.shape[1] >= size[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(pixels), size[::-1], interpolation=method)
    return np.asarray(resized).reshape(*size, -1)  # OpenCV drops a single band
