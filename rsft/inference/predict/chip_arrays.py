"""Chips in arrays, in the layouts of NumPy, PyTorch and rasterio."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.errors import RequestError
from rsft.inference.predict.chip_files import ChipSource, SourceChip, fit_chip
from rsft.scenes.chip_size import resolve_spacing
from rsft.scenes.options import ChipOptions, Declaration
from rsft.types import Pixels

Channels = Literal["first", "last"]
"""Whether the axis of the bands is before or behind rows and columns."""

_RGB = 3


class ChipArrays(ChipSource):
    """A source of chips in memory.

    Args:
        chips: an array, or a list of arrays with one chip each.
        contract: bands and units of the model.
        declaration: unit and bands of the arrays.
        options: their pixel spacing, and whether to resample.
        channels: where the bands are; None decides it by their number.

    Raises:
        RequestError: an array has a wrong shape, or its bands may be on two axes.
    """

    def __init__(
        self,
        chips: Any,
        contract: Contract,
        declaration: Declaration,
        options: ChipOptions,
        channels: Channels | None = None,
    ) -> None:
        self.contract = contract
        self.declaration = declaration
        self.options = options
        self.channels = channels
        self.arrays: list[Pixels] = []
        if isinstance(chips, list | tuple):
            self.arrays += [self._move_bands(as_array(chip)) for chip in chips]
        else:
            self.arrays += self._split(as_array(chips))

    def __len__(self) -> int:
        return len(self.arrays)

    def read(self, number: int) -> SourceChip:
        return fit_chip(
            _as_digital(self.arrays[number], self.declaration.unit),
            self.declaration,
            resolve_spacing(None, self.options),
            {"chip": number},
            self.contract,
            self.options,
        )

    def chip_name(self, number: int) -> int:
        return number

    def location_of(self, number: int) -> tuple[str, int]:
        return f"array {number}", 0

    @property
    def _counts(self) -> set[int]:
        """Numbers of bands that an array may have."""
        names = self.declaration.bands
        if names is not None:
            return {len(names)}
        return {len(self.contract.used_bands), len(self.contract.bands)}

    def _find_axes(self, shape: tuple[int, ...]) -> list[int]:
        """Return the axes that may be those of the bands."""
        axes = {"first": [-3], "last": [-1], None: [-3, -1]}[self.channels]
        found = [axis for axis in axes if shape[axis] in self._counts]
        if 1 in self._counts and not found:  # a gray chip may be stored as RGB
            return [axis for axis in axes if shape[axis] == _RGB]
        return found

    def _split(self, array: Pixels) -> list[Pixels]:
        """Return the chips (H, W, B) of an array.

        Raises:
            RequestError: see `_move_bands`; or bands may be chips.
        """
        shape = array.shape
        is_stack = array.ndim == 3 and self.channels is None and 1 in self._counts
        if is_stack and shape[0] > 1 and shape[2] not in (*self._counts, _RGB):
            if shape[0] in self._counts:
                raise RequestError(
                    f"an array of shape {shape} may be {shape[0]} chips of one band, or"
                    f" one chip of {shape[0]} bands",
                    "channels",
                    'give channels="first" for one chip, or a list of chips',
                )
            return list(array[..., None])
        moved = self._move_bands(array)
        return list(moved) if moved.ndim == 4 else [moved]

    def _move_bands(self, array: Pixels) -> Pixels:
        """Return an array with its bands on the last axis, which a gray chip gets.

        Raises:
            RequestError: no axis has their number, or two axes have it.
        """
        if array.ndim == 2 and array.size and 1 in self._counts:
            return array[..., None]
        axes = []
        if array.ndim in (3, 4) and array.size:
            axes = self._find_axes(array.shape)
        if len(axes) == 1:
            return np.moveaxis(array, axes[0], -1)
        if axes:
            raise RequestError(
                f"two axes of an array of shape {array.shape} may be that of the bands",
                "channels",
                'give channels="first" or channels="last"',
            )
        needed = " or ".join(map(str, sorted(self._counts)))
        raise RequestError(
            f"an array of shape {array.shape} has no axis of {needed} for its bands",
            "chips",
            "give (H, W), (H, W, B), (B, H, W), (N, H, W, B) or (N, B, H, W); `bands`"
            " names all bands of arrays that have further ones",
        )


def as_array(chips: Any) -> Pixels:
    """Return an array of NumPy, or a tensor of any device, as an array."""
    if hasattr(chips, "detach"):  # PyTorch need not be imported
        chips = chips.detach().cpu()
    return np.asarray(chips)


def _as_digital(pixels: Pixels, unit: str | None) -> Pixels:
    """Return whole numbers that are declared as uint8 or uint16 in this type."""
    if unit not in DIGITAL_UNITS or pixels.dtype == unit:
        return pixels
    limits = np.iinfo(unit)
    numbers = np.clip(np.nan_to_num(pixels), limits.min, limits.max).astype(unit)
    return numbers if np.array_equal(numbers, pixels) else pixels
