"""Stretch of the values of a plane to bytes, between declared or measured limits."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import model_validator

from rsft.data.imagery.bands import compute_planes
from rsft.data.imagery.document import StoredDocument
from rsft.data.imagery.units import DECIBEL_UNITS, POWER_UNITS, convert_unit
from rsft.errors import DataError, RequestError
from rsft.types import Bytes, JsonObject, Pixels, Plane
from rsft.utils.array_namespace import (
    array_namespace,
    fill_missing,
    to_float,
)

Limits = tuple[float, float]
"""Values that become 0 and 255."""

StretchOption = str | tuple[Limits, ...]
"""Stretch of a recipe: auto, percentile, log1p, chip-max, chip-standard, or limits (one
pair for all planes, or one per plane)."""

CHIP_STANDARD = "chip-standard"
"""Stretch option: the bytes of "auto", which the network receives with mean 0 and
deviation 1 in each chip."""

PERCENTILES = (0.5, 99.5)
"""Percentiles of the measured limits. With wider limits, a few strong scatterers would
darken the whole chip. If no value is negative, 0 is black."""

KNEE = 0.95
"""Fraction of the bytes for the values up to `Stretch.high`, if brighter values are
compressed. Part of the format."""

AUTO_OF_0_2 = "auto-0.2"
"""Stretch option "auto" until rsft 0.2: bytes are unchanged, and all other data are
stretched as with "percentile"."""

SATURATED_FRACTION = 1e-4
"""Fraction of a chip's pixels that may be brighter than white with `CHIP_MAX`. Rounded
to whole pixels, it reproduces
the bytes of OpenSARShip from its sigma0: all 260 planes of 130 chips agree within one
step."""


class Stretch(StoredDocument):
    """Mapping from the values of a plane to bytes.

    Attributes:
        curve: "linear", "log" for power, or "log1p" for values that span decades.
        low: value that becomes 0; lower values are clipped.
        high: value that becomes 255; higher values are clipped. None takes the
            brightest value of the chip itself, apart from SATURATED_FRACTION of its
            pixels, so that an unknown scale factor of the values cancels.
        top: value above `high` that becomes 255 in place of it. Values up to `high`
            take the fraction KNEE of the bytes, and brighter ones the others, by their
            logarithm.
        restored: whether the network receives the values that the bytes stand for,
            instead of the bytes. So a curve may give small values finer steps, for a
            network that was trained on the values.
    """

    newer: ClassVar[JsonObject] = {"top": None, "restored": False}

    curve: Literal["linear", "log", "log1p"] = "linear"
    low: float = 0.0
    high: float | None = 255.0
    top: float | None = None
    restored: bool = False

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        limits = [x for x in (self.low, self.high, self.top) if x is not None]
        if not all(map(math.isfinite, limits)):
            raise ValueError("a limit of a stretch is not finite")
        if self.curve == "log" and self.low <= 0:
            raise ValueError("low of a stretch must be above 0 if it is logarithmic")
        if self.restored and (self.high is None or self.top is not None):
            raise ValueError("restored values of a stretch need high and no top")
        if self.top is None:
            return self
        rises = limits == sorted(set(limits)) and len(limits) == 3
        if self.curve != "linear" or not rises:
            raise ValueError(
                "low, high and top of a stretch must rise, on a linear curve"
            )
        return self

    @property
    def white(self) -> float | None:
        """The value that becomes 255; None for the brightest value of the chip."""
        if self.top is None:
            return self.high
        return self.top

    @property
    def slope(self) -> float:
        """Factor of the logarithm of values above `high`; only with a `top`.

        On its scale, `low` is 0 and `high` is 1.
        """
        assert self.high is not None and self.top is not None
        return (1 / KNEE - 1) / math.log((self.top - self.low) / (self.high - self.low))

    def byte_values(self) -> Plane:
        """Return what each byte becomes before the normalization: (256,), float32.

        It is the byte in 0-1, or the value that it stands for.
        """
        shares = np.arange(256, dtype=np.float32) / np.float32(255)
        if not self.restored:
            return shares
        low, high = self._apply_curve(np.array([self.low, self.high], np.float64))
        values = low + shares * (high - low)
        if self.curve == "log":
            values = np.exp(values)
        elif self.curve == "log1p":
            values = np.expm1(values)
        return np.asarray(values, np.float32)

    def to_bytes(self, plane: Plane) -> Bytes:
        """Stretch one plane (H, W) to bytes (H, W); pixels without a value are 0.

        Raises:
            DataError: the limit is the chip's own maximum, and no value lies above
                `low`.
        """
        if plane.dtype == np.uint8 and self == IDENTITY_STRETCH:
            return plane
        values = fill_missing(to_float(plane), float("-inf"))
        high = self.high
        if high is None:
            index = values.size - 1 - round(values.size * SATURATED_FRACTION)
            high = float(np.partition(values, index, axis=None)[index])
        if not high > self.low:
            raise DataError(
                f"no value lies above {self.low:g}", hint="leave the file out"
            )
        return np.asarray(self._to_levels(values, high), np.uint8)

    def to_levels(self, plane: Any) -> Any:
        """Return the bytes of `to_bytes` as whole numbers in float32.

        The limits must not depend on the chip.
        """
        assert self.high is not None
        return self._to_levels(fill_missing(to_float(plane), float("-inf")), self.high)

    def _to_levels(self, values: Any, high: float) -> Any:
        """Return bytes as floating-point numbers; `values` are overwritten."""
        low = float(self._apply_curve(np.float32(self.low)))
        high = float(self._apply_curve(np.float32(high)))
        scale = (255 if self.top is None else 1) / (high - low)
        scaled = self._apply_curve(values)
        scaled -= low
        scaled *= float(np.float32(scale))
        if self.top is not None:
            bright = array_namespace(scaled).log(scaled.clip(1, None)) * self.slope
            scaled = (scaled.clip(None, 1) + bright) * (KNEE * 255)
        return scaled.round().clip(0, 255)

    def _apply_curve(self, values: Any) -> Any:
        if self.curve == "linear":
            return values
        low = self.low if self.curve == "log" else 0
        curve = getattr(array_namespace(values), self.curve)
        return curve(values.clip(low, None))


IDENTITY_STRETCH = Stretch()
"""Leaves bytes unchanged."""
CHIP_MAX = Stretch(high=None)
"""Stretches each chip to its own maximum."""


class Statistics(StoredDocument):
    """Statistics of one plane of the training chips.

    Attributes:
        low: lower of PERCENTILES; `high` is the upper one.
        masked: fraction of pixels without a value.
        clipped: fraction of chips whose brightest pixel the stretch clips; None in
            bundles of rsft 0.2.
    """

    low: float
    high: float
    mean: float
    std: float
    masked: float
    clipped: float | None = None


PlaneStatistics = dict[str, tuple[Statistics, ...]]
"""Statistics of each plane, by the unit of the chips."""


class Histogram:
    """Statistics of any number of values, in one pass and with constant memory.

    Bins have equal width in asinh(value / 1e-6), so that each is 0.1 % of its value
    wide, from 1e-6 to 1e12 and for both signs.
    """

    _FINEST = 1e-6
    _WIDTH = 1e-3
    _HALF = 42_000  # asinh(1e12 / 1e-6) is 42

    def __init__(self) -> None:
        self._counts = np.zeros(2 * self._HALF + 1, np.int64)
        self._masked = 0
        self._brightest: list[float] = []  # value of each plane

    def add(self, plane: Plane) -> None:
        """Count the values of a plane (H, W); 0 and what is not finite mean no data."""
        values = plane[np.isfinite(plane) & (plane != 0)].astype(np.float64)
        positions = np.rint(np.arcsinh(values / self._FINEST) / self._WIDTH)
        bins = np.clip(self._HALF + positions.astype(np.int64), 0, 2 * self._HALF)
        self._counts += np.bincount(bins, minlength=len(self._counts))
        self._masked += plane.size - values.size
        self._brightest.append(float(values.max(initial=-np.inf)))

    def fit(
        self, option: StretchOption, unit: str, is_physical: bool
    ) -> tuple[Stretch, Statistics]:
        """Fit the stretch to the counted values of a unit, see `fit_stretches`.

        Returns:
            The stretch, and the statistics with the share of planes that it clips.

        Raises:
            DataError: no value was counted.
        """
        statistics = self.statistics()
        if option == "auto":
            stretch = self._fit_auto(statistics, unit, is_physical)
        else:
            low, high = _limits(statistics)
            curve: Any = "log1p" if option == "log1p" else "linear"
            stretch = Stretch(curve=curve, low=low, high=high)
        assert stretch.white is not None
        # a measured limit is rounded by up to half a step
        half_step = (stretch.white - _limits(statistics)[0]) / 510
        is_clipped = np.array(self._brightest) > stretch.white + half_step
        clipped = float(np.mean(is_clipped))
        return stretch, statistics.model_copy(update={"clipped": clipped})

    def _fit_auto(
        self, statistics: Statistics, unit: str, is_physical: bool
    ) -> Stretch:
        low, high = _limits(statistics)
        top = max(self._brightest)
        if unit in DECIBEL_UNITS:
            return Stretch(low=low, high=max(high, top))
        if unit in POWER_UNITS and 0 < statistics.low < top:
            return Stretch(curve="log", low=statistics.low, high=top)
        if is_physical or top <= high:
            return Stretch(low=low, high=high)
        if KNEE * (top - low) > high - low:
            return Stretch(low=low, high=high, top=top)
        return Stretch(low=low, high=top)

    def statistics(self) -> Statistics:
        """Return the statistics of all counted values.

        Raises:
            DataError: no value was counted.
        """
        total = int(self._counts.sum())
        if not total:
            raise DataError(
                "no pixel of the training chips has a value",
                hint="prepare the data again",
            )
        bins = np.arange(len(self._counts)) - self._HALF
        values = np.sinh(bins * self._WIDTH) * self._FINEST
        ranks = np.array(PERCENTILES) / 100 * total
        low, high = values[np.searchsorted(np.cumsum(self._counts), ranks)]
        mean = float(np.average(values, weights=self._counts))
        variance = np.average((values - mean) ** 2, weights=self._counts)
        return Statistics(
            low=float(low),
            high=float(high),
            mean=mean,
            std=float(np.sqrt(variance)),
            masked=self._masked / (self._masked + total),
        )


def _limits(statistics: Statistics) -> Limits:
    """Return the measured limits. If no value is negative, the lower one is 0."""
    low = min(0.0, statistics.low)
    if statistics.high > low:
        return low, statistics.high
    return low, low + 1.0


def stretches_from_option(option: StretchOption, planes: int) -> tuple[Stretch, ...]:
    """Return one stretch per plane, if none needs to be measured.

    Raises:
        RequestError: the number of limits does not match the number of planes.
    """
    if isinstance(option, str):
        return (CHIP_MAX if option == "chip-max" else IDENTITY_STRETCH,) * planes
    pairs = option * planes if len(option) == 1 else option
    if len(pairs) != planes:
        raise RequestError(
            f"{len(pairs)} pairs of limits for {planes} planes",
            "data.stretch",
            "give one pair, or one pair per plane",
        )
    return tuple(Stretch(low=low, high=high) for low, high in pairs)


Stretches = dict[str, tuple[Stretch, ...]]
"""Stretch of each plane, by the unit in which the planes are computed."""


def fit_stretches(
    option: StretchOption,
    planes: Sequence[str],
    bands: Sequence[str],
    units: Mapping[str, tuple[str, str]],
    chips: Callable[[str], Iterable[Pixels]],
    is_physical: bool = False,
) -> tuple[Stretches, PlaneStatistics]:
    """Fit the stretch of every plane and unit.

    The training chips are measured if the limits depend on them. A measured stretch
    lies between the measured percentiles; black is 0 if the lower one is above 0. With
    "auto", white is the brightest value: decibels are stretched linearly and power by
    its logarithm. Of all other data, the values up to the upper percentile take KNEE of
    the bytes, and brighter ones are compressed into the others.

    Args:
        option: stretch in the recipe; "log1p" selects the logarithmic curve.
        planes: expressions over `bands`.
        bands: names of the bands of the chips.
        units: meaning of each unit of the chips, and the unit to convert it to.
        chips: reads the training chips of a unit, (H, W, B) each.
        is_physical: whether the backbone takes values in their unit; "auto" then
            compresses none.

    Returns:
        Stretches, and the statistics of the planes that were measured, by unit.

    Raises:
        RequestError: the number of limits does not match the number of planes.
        DataError: a chip cannot be read, or its unit cannot be converted.
    """
    option = "auto" if option == CHIP_STANDARD else option
    stretches = {}
    statistics = {}
    for target in dict.fromkeys(target for _, target in units.values()):
        if not _is_measured(option, target):
            stretches[target] = stretches_from_option(option, len(planes))
            continue
        histograms = [Histogram() for _ in planes]
        for unit, (meaning, new_unit) in units.items():
            if new_unit != target:
                continue
            for pixels in chips(unit):
                converted = convert_unit(pixels, meaning, target)
                arrays = compute_planes(converted, bands, planes)
                for histogram, plane in zip(histograms, arrays, strict=True):
                    histogram.add(plane)
        fits = [histogram.fit(option, target, is_physical) for histogram in histograms]
        stretches[target] = tuple(stretch for stretch, _ in fits)
        statistics[target] = tuple(measured for _, measured in fits)
    return stretches, statistics


def _is_measured(option: StretchOption, unit: str) -> bool:
    if option in ("auto", AUTO_OF_0_2):
        return unit != "uint8"
    return option in ("percentile", "log1p")
