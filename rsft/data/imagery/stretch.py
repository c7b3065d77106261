"""How the values of a plane become bytes: limits that are declared, or measured once on the training chips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from rsft.errors import DataError, RequestError
from rsft.types import Bytes, Plane

Limits = tuple[float, float]
StretchOption = str | tuple[Limits, ...]
"""What a recipe says: auto, percentile, log1p, chip-max, or limits: one pair for all planes, or one a plane."""

PERCENTILES = (0.5, 99.5)
"""A few strong scatterers would leave the rest of a chip black. Where no value is negative, black is 0."""


SATURATED_FRACTION = 1e-4
"""The share of a chip's pixels that may be brighter than its white. Rounded to whole pixels, this gives OpenSARShip's
bytes out of its sigma0: all 260 planes of 130 chips agree to one step."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stretch(_Frozen):
    """From the values of a plane to bytes.

    Attributes:
        curve: "linear", or "log1p" for values that span decades.
        low, high: the values that become 0 and 255; what lies outside is clipped. `high` None is the brightest value of
            the chip itself but for SATURATED: the scale of the numbers cancels, and with it any unknown factor.
    """

    curve: Literal["linear", "log1p"] = "linear"
    low: float = 0.0
    high: float | None = 255.0

    def to_bytes(self, plane: Plane) -> Bytes:
        """(H, W) -> (H, W); what has no value becomes 0.

        Raises:
            DataError: the chip's own maximum is wanted, and no value lies above `low`.
        """
        if plane.dtype == np.uint8 and self == IDENTITY_STRETCH:
            return plane
        values = plane.astype(np.float32)
        values[~np.isfinite(values)] = -np.inf
        high = _brightest(values) if self.high is None else self.high
        if not high > self.low:
            raise DataError(f"no value lies above {self.low:g}", hint="leave the file out")
        low, high = float(self._curved(np.float32(self.low))), float(self._curved(np.float32(high)))
        scaled = (self._curved(values) - low) * np.float32(255 / (high - low))
        return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)

    def _curved(self, values: Any) -> Any:
        return np.log1p(np.maximum(values, 0)) if self.curve == "log1p" else values


def _brightest(values: Plane) -> float:
    place = values.size - 1 - round(values.size * SATURATED_FRACTION)
    return float(np.partition(values, place, axis=None)[place])


IDENTITY_STRETCH = Stretch()
"""Bytes that stay bytes."""
CHIP_MAX = Stretch(high=None)


class Statistics(_Frozen):
    """Of one plane over the training chips: values at PERCENTILES, mean, deviation, and the share without a value."""

    low: float
    high: float
    mean: float
    std: float
    masked: float


class Histogram:
    """The statistics of any number of values in one pass and constant memory.

    Bins of equal width in asinh(value / 1e-6): each is 0.1 % of its value wide, from 1e-6 to 1e12, on both sides of 0.
    """

    _FINEST, _WIDTH, _HALF = 1e-6, 1e-3, 42_000  # asinh(1e12 / 1e-6) is 42

    def __init__(self) -> None:
        self._counts = np.zeros(2 * self._HALF + 1, np.int64)
        self._masked = 0

    def add(self, plane: Plane) -> None:
        """Count the values; those not finite or exactly zero are no data."""
        values = plane[np.isfinite(plane) & (plane != 0)].astype(np.float64)
        places = self._HALF + np.rint(np.arcsinh(values / self._FINEST) / self._WIDTH).astype(np.int64)
        self._counts += np.bincount(np.clip(places, 0, 2 * self._HALF), minlength=len(self._counts))
        self._masked += plane.size - values.size

    def statistics(self) -> Statistics:
        """What was counted.

        Raises:
            DataError: not one value.
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


def needs_measuring(wish: StretchOption, unit: str) -> bool:
    """Whether `wish` leaves the limits to the training chips."""
    return wish in ("percentile", "log1p") or (wish == "auto" and unit != "uint8")


def measure_planes(chips: Iterable[Sequence[Plane]]) -> tuple[Statistics, ...]:
    """The statistics of each plane, in one pass over chips that each give their planes.

    Raises:
        DataError: a chip that cannot be read; a plane without a value.
    """
    histograms: list[Histogram] = []
    for planes in chips:
        histograms = histograms or [Histogram() for _ in planes]
        for histogram, plane in zip(histograms, planes, strict=True):
            histogram.add(plane)
    return tuple(histogram.statistics() for histogram in histograms)


def stretch_from_statistics(wish: StretchOption, statistics: Statistics) -> Stretch:
    """The percentiles as limits; black is 0 where the lower one is above it."""
    low = min(0.0, statistics.low)
    high = statistics.high if statistics.high > low else low + 1.0
    return Stretch(curve="log1p" if wish == "log1p" else "linear", low=low, high=high)


def stretches_from_option(wish: StretchOption, planes: int) -> tuple[Stretch, ...]:
    """What needs no measuring, one a plane.

    Raises:
        RequestError: another number of pairs than planes.
    """
    if isinstance(wish, str):
        return (CHIP_MAX if wish == "chip-max" else IDENTITY_STRETCH,) * planes
    pairs = wish * planes if len(wish) == 1 else wish
    if len(pairs) != planes:
        fix = "give one pair, or one a plane"
        raise RequestError(f"{len(pairs)} pairs of limits for {planes} planes", "data.stretch", fix)
    return tuple(Stretch(low=low, high=high) for low, high in pairs)
