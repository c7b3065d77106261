"""Chips in arrays, in the layouts of NumPy, PyTorch and rasterio."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import numpy as np

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS, UNITS
from rsft.errors import DataError, RequestError
from rsft.inference.predict.chip_files import ChipSource, SourceChip, fit_chip
from rsft.scenes.chip_size import resolve_spacing
from rsft.scenes.options import ChipOptions, Declaration
from rsft.types import Pixels

Channels = Literal["first", "last"]
"""Whether the axis of the bands is before or behind rows and columns."""

_GRAY_AS_RGB = 3


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
        layout = _Layout(contract, declaration.bands, channels)
        self.arrays: list[Pixels] = []
        if isinstance(chips, list | tuple):
            self.arrays += [layout.move_bands(as_array(chip)) for chip in chips]
        else:
            self.arrays += layout.split(as_array(chips))
        if not self.arrays:
            raise RequestError("no chips", "chips", "give an array, a list or paths")
        self.contract = contract
        self.declaration = declaration
        self.options = options

    def __len__(self) -> int:
        return len(self.arrays)

    def read(self, number: int) -> SourceChip:
        unit = self.declaration.unit
        pixels = _as_digital(self.arrays[number], unit)
        if unit is None and pixels.dtype.name not in DIGITAL_UNITS:
            accepted = " or ".join(self.contract.units)
            raise DataError(
                f"{pixels.dtype} pixels without a declared unit, but the model takes"
                f" {accepted}",
                hint='declare it with `unit`: "uint8" or "uint16" for digital numbers'
                f" of any type, or {', '.join(UNITS[len(DIGITAL_UNITS) :])}",
            )
        names = self.declaration.bands
        spacing = resolve_spacing(None, self.options)
        fitted = fit_chip(pixels, names, spacing, self.contract, self.options)
        columns = {"chip": number}
        return SourceChip(fitted.pixels, unit, fitted.spacing, columns, fitted.counts)

    def chip_name(self, number: int) -> int:
        return number

    def location_of(self, number: int) -> tuple[str, int]:
        return f"array {number}", 0


def as_array(chips: Any) -> Pixels:
    """Return an array of NumPy, or a tensor of any device, as an array.

    Raises:
        RequestError: NumPy has no such data type.
    """
    try:
        if hasattr(chips, "detach"):  # a tensor; PyTorch need not be imported
            chips = chips.detach().cpu().numpy()
        return np.asarray(chips)
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"the chips are no array: {error}",
            "chips",
            "give arrays or tensors of uint8, uint16 or float32, or paths",
        ) from error


def _as_digital(pixels: Pixels, unit: str | None) -> Pixels:
    """Return whole numbers that are declared as uint8 or uint16 in this type."""
    if unit not in DIGITAL_UNITS or pixels.dtype == unit:
        return pixels
    limits = np.iinfo(unit)
    numbers = np.clip(np.nan_to_num(pixels), limits.min, limits.max).astype(unit)
    return numbers if np.array_equal(numbers, pixels) else pixels


class _Layout:
    """The axis of the bands: the one whose length is that of a model's bands.

    Args:
        contract: bands of the model.
        names: names of the bands of the arrays; None if they are not declared.
        channels: where the bands are; None decides it by their number.
    """

    def __init__(
        self,
        contract: Contract,
        names: tuple[str, ...] | None,
        channels: Channels | None,
    ) -> None:
        self.bands = names or contract.used_bands
        self.counts = {len(self.bands)}
        if names is None:
            self.counts.add(len(contract.bands))
        self.may_be_rgb = names is None and len(contract.used_bands) == 1
        self.channels = channels

    def split(self, array: Pixels) -> list[Pixels]:
        """Return the chips (H, W, B) of an array with any number of axes."""
        if array.ndim == 4:
            return list(self.move_bands(array))
        if array.ndim == 3 and 1 in self.counts and self.channels is None:
            self._check_first(array.shape)
        is_one = array.ndim != 3 or self.channels is not None
        if is_one or self._axes(array, self.counts) or 1 not in self.counts:
            return [self.move_bands(array)]
        if self.may_be_rgb and array.shape[-1] == _GRAY_AS_RGB:
            return [array]
        return [chip[:, :, None] for chip in array]

    def _check_first(self, shape: tuple[int, ...]) -> None:
        """Raise an error if the first axis may be that of bands or of gray chips."""
        if shape[0] != 1 and shape[0] in self.counts and shape[2] not in self.counts:
            raise RequestError(
                f"an array of shape {shape} may be {shape[0]} chips of one band, or one"
                f" chip of {shape[0]} bands",
                "channels",
                'give channels="first" for one chip, or a list of chips',
            )

    def move_bands(self, array: Pixels) -> Pixels:
        """Return an array with its bands on the last axis, which a gray chip gets.

        Raises:
            RequestError: no axis has this length, or two axes have it.
        """
        shape = array.shape
        if array.ndim == 2 and array.size and 1 in self.counts:
            return array[:, :, None]
        axes: list[int] = []
        if array.ndim in (3, 4) and array.size:
            axes = self._axes(array, self.counts)
            if not axes and self.may_be_rgb:
                axes = self._axes(array, {_GRAY_AS_RGB})
        if len(axes) == 1:
            return np.moveaxis(array, axes[0], -1)
        if axes:
            raise RequestError(
                f"the bands of an array of shape {shape} may be on its axis {axes[0]}"
                f" or on its axis {axes[1]}",
                "channels",
                'give channels="first" or channels="last"',
            )
        needed = " or ".join(map(str, sorted(self.counts)))
        raise RequestError(
            f"an array of shape {shape} has no axis of {needed} for the bands"
            f" {', '.join(self.bands)}",
            "chips",
            "give (H, W), (H, W, B), (B, H, W), (N, H, W, B) or (N, B, H, W); `bands`"
            " names all bands of arrays that have further ones",
        )

    def _axes(self, array: Pixels, counts: Collection[int]) -> list[int]:
        """Return the axes that may be those of the bands."""
        axes = [array.ndim - 3, array.ndim - 1]
        if self.channels is not None:
            axes = axes[:1] if self.channels == "first" else axes[1:]
        return [axis for axis in axes if array.shape[axis] in counts]
