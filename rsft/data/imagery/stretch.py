"""Stretch of pixel values to bytes, with limits that are declared or measured on the training chips."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from rsft.errors import DataError, RequestError
from rsft.types import Bytes, Plane
from rsft.utils.array_namespace import array_namespace, clip_array, fill_missing, round_array, to_float

Limits = tuple[float, float]
"""Values that become 0 and 255."""

StretchOption = str | tuple[Limits, ...]
"""Stretch of a recipe: auto, percentile, log1p, chip-max, or limits (one pair for all planes, or one per plane)."""

PERCENTILES = (0.5, 99.5)
"""Percentiles of the measured limits. With wider limits, a few strong scatterers would darken the whole chip. If no
value is negative, 0 is black."""

SATURATED_FRACTION = 1e-4
"""Fraction of a chip's pixels that may be brighter than white with `CHIP_MAX`. Rounded to whole pixels, it reproduces
the bytes of OpenSARShip from its sigma0: all 260 planes of 130 chips agree within one step."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stretch(_Frozen):
    """Mapping from the values of a plane to bytes.

    Attributes:
        curve: "linear", or "log1p" for values that span decades.
        low: value that becomes 0; lower values are clipped.
        high: value that becomes 255; higher values are clipped. None takes the brightest value of the chip itself,
            apart from SATURATED_FRACTION of its pixels, so that an unknown scale factor of the values cancels.
    """

    curve: Literal["linear", "log1p"] = "linear"
    low: float = 0.0
    high: float | None = 255.0

    def to_bytes(self, plane: Plane) -> Bytes:
        """Stretch one plane.

        Args:
            plane: values (H, W).

        Returns:
            Bytes (H, W); pixels without a value are 0.

        Raises:
            DataError: the limit is the chip's own maximum, and no value lies above `low`.
        """
        if plane.dtype == np.uint8 and self == IDENTITY_STRETCH:
            return plane
        values = fill_missing(to_float(plane), float("-inf"))
        index = values.size - 1 - round(values.size * SATURATED_FRACTION)
        high = float(np.partition(values, index, axis=None)[index]) if self.high is None else self.high
        if not high > self.low:
            raise DataError(f"no value lies above {self.low:g}", hint="leave the file out")
        return np.asarray(self._to_levels(values, high), np.uint8)

    def to_levels(self, plane: Any) -> Any:
        """Return the bytes of `to_bytes` as floating-point numbers. The limits must not depend on the chip.

        Args:
            plane: values of any shape, an array or a tensor.

        Returns:
            Whole numbers from 0 to 255 of the same shape, float32.
        """
        assert self.high is not None
        return self._to_levels(fill_missing(to_float(plane), float("-inf")), self.high)

    def _to_levels(self, values: Any, high: float) -> Any:
        """Return bytes as floating-point numbers; `values` are overwritten."""
        low, high = (float(self._apply_curve(np.float32(limit))) for limit in (self.low, high))
        scaled = self._apply_curve(values)
        scaled -= low
        scaled *= float(np.float32(255 / (high - low)))
        return clip_array(round_array(scaled), 0, 255)

    def _apply_curve(self, values: Any) -> Any:
        return array_namespace(values).log1p(clip_array(values, 0, None)) if self.curve == "log1p" else values


IDENTITY_STRETCH = Stretch()
"""Leaves bytes unchanged."""
CHIP_MAX = Stretch(high=None)
"""Stretches each chip to its own maximum."""


class Statistics(_Frozen):
    """Statistics of one plane of the training chips.

    Attributes:
        low: lower one of PERCENTILES.
        high: upper one of PERCENTILES.
        mean: mean value.
        std: standard deviation.
        masked: fraction of pixels without a value.
    """

    low: float
    high: float
    mean: float
    std: float
    masked: float


class Histogram:
    """Statistics of any number of values, in one pass and with constant memory.

    Bins have equal width in asinh(value / 1e-6), so that each is 0.1 % of its value wide, from 1e-6 to 1e12 and for
    both signs.
    """

    _FINEST, _WIDTH, _HALF = 1e-6, 1e-3, 42_000  # asinh(1e12 / 1e-6) is 42

    def __init__(self) -> None:
        self._counts = np.zeros(2 * self._HALF + 1, np.int64)
        self._masked = 0

    def add(self, plane: Plane) -> None:
        """Count the values of a plane (H, W); those that are not finite or exactly 0 mean no data."""
        values = plane[np.isfinite(plane) & (plane != 0)].astype(np.float64)
        bins = self._HALF + np.rint(np.arcsinh(values / self._FINEST) / self._WIDTH).astype(np.int64)
        self._counts += np.bincount(np.clip(bins, 0, 2 * self._HALF), minlength=len(self._counts))
        self._masked += plane.size - values.size

    def statistics(self) -> Statistics:
        """Return the statistics of all counted values.

        Raises:
            DataError: no value was counted.
        """
        total = int(self._counts.sum())
        if not total:
            raise DataError("no pixel of the training chips has a value", hint="prepare the data again")
        values = np.sinh((np.arange(len(self._counts)) - self._HALF) * self._WIDTH) * self._FINEST
        low, high = values[np.searchsorted(np.cumsum(self._counts), np.array(PERCENTILES) / 100 * total)]
        mean = float(np.average(values, weights=self._counts))
        std = float(np.sqrt(np.average((values - mean) ** 2, weights=self._counts)))
        masked = self._masked / (self._masked + total)
        return Statistics(low=float(low), high=float(high), mean=mean, std=std, masked=masked)


def needs_measuring(option: StretchOption, unit: str) -> bool:
    """Return True if the limits of chips in `unit` must be measured on the training chips."""
    return option in ("percentile", "log1p") or (option == "auto" and unit != "uint8")


def measure_planes(chips: Iterable[Sequence[Plane]]) -> tuple[Statistics, ...]:
    """Measure the statistics of each plane in one pass.

    Args:
        chips: planes (H, W) of each chip.

    Returns:
        Statistics of each plane.

    Raises:
        DataError: a chip cannot be read, or a plane has no value.
    """
    histograms: list[Histogram] = []
    for planes in chips:
        histograms = histograms or [Histogram() for _ in planes]
        for histogram, plane in zip(histograms, planes, strict=True):
            histogram.add(plane)
    return tuple(histogram.statistics() for histogram in histograms)


def stretch_from_statistics(option: StretchOption, statistics: Statistics) -> Stretch:
    """Return the stretch between the measured percentiles; black is 0 if the lower one is above 0.

    Args:
        option: stretch in the recipe; "log1p" selects the logarithmic curve.
        statistics: statistics of the plane.

    Returns:
        The stretch of the plane.
    """
    low = min(0.0, statistics.low)
    high = statistics.high if statistics.high > low else low + 1.0
    return Stretch(curve="log1p" if option == "log1p" else "linear", low=low, high=high)


def stretches_from_option(option: StretchOption, planes: int) -> tuple[Stretch, ...]:
    """Return stretches that need no measuring.

    Args:
        option: stretch in the recipe.
        planes: number of planes.

    Returns:
        One stretch per plane.

    Raises:
        RequestError: the number of limits does not match the number of planes.
    """
    if isinstance(option, str):
        return (CHIP_MAX if option == "chip-max" else IDENTITY_STRETCH,) * planes
    pairs = option * planes if len(option) == 1 else option
    if len(pairs) != planes:
        hint = "give one pair, or one pair per plane"
        raise RequestError(f"{len(pairs)} pairs of limits for {planes} planes", "data.stretch", hint)
    return tuple(Stretch(low=low, high=high) for low, high in pairs)
