"""Contract between pixels and network: what a chip must be, and how it becomes the network's input.

The values of a plane are stretched to bytes between limits that are declared, or
measured on the training chips.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from rsft.data.imagery import units as pixel_units
from rsft.data.imagery.bands import compute_planes, required_bands
from rsft.data.imagery.units import (
    DECIBEL_UNITS,
    DIGITAL_UNITS,
    POWER_UNITS,
    convert_unit,
)
from rsft.errors import DataError, RequestError
from rsft.types import Bytes, Pixels, Plane
from rsft.utils.array_namespace import (
    array_namespace,
    clip_array,
    fill_missing,
    round_array,
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

_MIN_DEVIATION = 5 / 255
"""Added to the standard deviation of a chip, 0-1: otherwise an empty chip would become
amplified noise."""

PERCENTILES = (0.5, 99.5)
"""Percentiles of the measured limits. With wider limits, a few strong scatterers would
darken the whole chip. If no value is negative, 0 is black."""

KNEE = 0.95
"""Fraction of the bytes for the values up to `Stretch.high`, if brighter values are
compressed. Part of the format."""

AUTO_OF_0_2 = "auto of 0.2"
"""Stretch option "auto" until rsft 0.2: bytes are unchanged, and all other data are
stretched as with "percentile"."""

SATURATED_FRACTION = 1e-4
"""Fraction of a chip's pixels that may be brighter than white with `CHIP_MAX`. Rounded
to whole pixels, it reproduces
the bytes of OpenSARShip from its sigma0: all 260 planes of 130 chips agree within one
step."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stretch(_Frozen):
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
    """

    curve: Literal["linear", "log", "log1p"] = "linear"
    low: float = 0.0
    high: float | None = 255.0
    top: float | None = None

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        if not all(
            math.isfinite(limit)
            for limit in (self.low, self.high, self.top)
            if limit is not None
        ):
            raise ValueError("a limit of a stretch is not finite")
        if self.curve == "log" and self.low <= 0:
            raise ValueError("low of a stretch must be above 0 if it is logarithmic")
        if self.high is None or self.curve != "linear":
            high = math.nan
        else:
            high = self.high
        if self.top is not None and not self.low < high < self.top:
            raise ValueError(
                "low, high and top of a stretch must rise, on a linear curve"
            )
        return self

    @model_serializer(mode="wrap")
    def _leave_out_top(
        self, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        """Write the fields of rsft 0.2 if `top` is None, so that hashes of bundles and names of caches are the same."""
        return {
            key: value
            for key, value in serialize(self).items()
            if (key, value) != ("top", None)
        }

    @property
    def white(self) -> float | None:
        """The value that becomes 255; None for the brightest value of the chip."""
        if self.top is None:
            return self.high
        return self.top

    @property
    def slope(self) -> float:
        """Factor of the logarithm of values above `high`, where `low` is 0 and `high` is 1; only with a `top`."""
        assert self.high is not None and self.top is not None
        return (1 / KNEE - 1) / math.log((self.top - self.low) / (self.high - self.low))

    def to_bytes(self, plane: Plane) -> Bytes:
        """Stretch one plane (H, W) to bytes (H, W); pixels without a value are 0.

        Returns:
            Bytes (H, W); pixels without a value are 0.

        Raises:
            DataError: the limit is the chip's own maximum, and no value lies above
                `low`.
        """
        if plane.dtype == np.uint8 and self == IDENTITY_STRETCH:
            return plane
        values = fill_missing(to_float(plane), float("-inf"))
        index = values.size - 1 - round(values.size * SATURATED_FRACTION)
        if self.high is None:
            high = float(np.partition(values, index, axis=None)[index])
        else:
            high = self.high
        if not high > self.low:
            raise DataError(
                f"no value lies above {self.low:g}", hint="leave the file out"
            )
        return np.asarray(self._to_levels(values, high), np.uint8)

    def to_levels(self, plane: Any) -> Any:
        """Return the bytes of `to_bytes` as whole numbers in float32.

        The limits must not depend on the chip.

        Returns:
            Whole numbers from 0 to 255 of the same shape, float32.
        """
        assert self.high is not None
        return self._to_levels(fill_missing(to_float(plane), float("-inf")), self.high)

    def _to_levels(self, values: Any, high: float) -> Any:
        """Return bytes as floating-point numbers; `values` are overwritten."""
        low = float(self._apply_curve(np.float32(self.low)))
        high = float(self._apply_curve(np.float32(high)))
        scaled = self._apply_curve(values)
        scaled -= low
        scaled *= float(np.float32((255 if self.top is None else 1) / (high - low)))
        if self.top is not None:
            bright = array_namespace(scaled).log(scaled.clip(1, None)) * self.slope
            scaled = (scaled.clip(None, 1) + bright) * (KNEE * 255)
        return clip_array(round_array(scaled), 0, 255)

    def _apply_curve(self, values: Any) -> Any:
        if self.curve == "linear":
            return values
        low = self.low if self.curve == "log" else 0
        return getattr(array_namespace(values), self.curve)(
            clip_array(values, low, None)
        )


IDENTITY_STRETCH = Stretch()
"""Leaves bytes unchanged."""
CHIP_MAX = Stretch(high=None)
"""Stretches each chip to its own maximum."""


class Statistics(_Frozen):
    """Statistics of one plane of the training chips: PERCENTILES, moments, and fraction of pixels without a value.

    Attributes:
        clipped: fraction of chips whose brightest pixel the stretch clips; None in
            bundles of rsft 0.2.
    """

    low: float
    high: float
    mean: float
    std: float
    masked: float
    clipped: float | None = None


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
        """Count the values of a plane (H, W); those that are not finite or exactly 0 mean no data."""
        values = plane[np.isfinite(plane) & (plane != 0)].astype(np.float64)
        bins = self._HALF + np.rint(
            np.arcsinh(values / self._FINEST) / self._WIDTH
        ).astype(np.int64)
        self._counts += np.bincount(
            np.clip(bins, 0, 2 * self._HALF), minlength=len(self._counts)
        )
        self._masked += plane.size - values.size
        self._brightest.append(float(values.max(initial=-np.inf)))

    def fit(
        self, option: StretchOption, unit: str, is_physical: bool
    ) -> tuple[Stretch, Statistics]:
        """Fit the stretch to the counted values of a unit, see `fit_stretches`, and count the planes that it clips.

        Returns:
            The stretch and the statistics.

        Raises:
            DataError: no value was counted.
        """
        statistics = self.statistics()
        top = max(self._brightest)
        low, high = min(0.0, statistics.low), statistics.high
        high = high if high > low else low + 1.0
        stretch = Stretch(
            curve="log1p" if option == "log1p" else "linear", low=low, high=high
        )
        if option == "auto" and unit in DECIBEL_UNITS:
            stretch = Stretch(low=low, high=max(high, top))
        elif option == "auto" and unit in POWER_UNITS and 0 < statistics.low < top:
            stretch = Stretch(curve="log", low=statistics.low, high=top)
        elif option == "auto" and not is_physical and top > high:
            is_compressed = KNEE * (top - low) > high - low
            if is_compressed:
                stretch = Stretch(low=low, high=high, top=top)
            else:
                stretch = Stretch(low=low, high=top)
        assert stretch.white is not None
        half_step = (stretch.white - low) / 510  # a measured limit is rounded
        clipped = float(np.mean(np.array(self._brightest) > stretch.white + half_step))
        return stretch, statistics.model_copy(update={"clipped": clipped})

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
        values = (
            np.sinh((np.arange(len(self._counts)) - self._HALF) * self._WIDTH)
            * self._FINEST
        )
        low, high = values[
            np.searchsorted(
                np.cumsum(self._counts), np.array(PERCENTILES) / 100 * total
            )
        ]
        mean = float(np.average(values, weights=self._counts))
        std = float(np.sqrt(np.average((values - mean) ** 2, weights=self._counts)))
        masked = self._masked / (self._masked + total)
        return Statistics(
            low=float(low), high=float(high), mean=mean, std=std, masked=masked
        )


def stretches_from_option(option: StretchOption, planes: int) -> tuple[Stretch, ...]:
    """Return one stretch per plane, if none needs to be measured.

    Returns:
        One stretch per plane.

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
) -> tuple[Stretches, dict[str, tuple[Statistics, ...]]]:
    """Fit the stretch of every plane and unit; measure the training chips if its limits depend on them.

    A measured stretch lies between the measured percentiles; black is 0 if the lower
    one is above 0. With "auto", white is the brightest value: decibels are stretched
    linearly and power by its logarithm. Of all other data, the values up to the upper
    percentile take KNEE of the bytes, and brighter ones are compressed into the others.

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
    stretches: Stretches = {}
    statistics: dict[str, tuple[Statistics, ...]] = {}
    for target in dict.fromkeys(target for _, target in units.values()):
        if option not in ("percentile", "log1p") and (
            option not in ("auto", AUTO_OF_0_2) or target == "uint8"
        ):
            stretches[target] = stretches_from_option(option, len(planes))
            continue
        histograms: list[Histogram] = []
        for unit in (
            unit for unit, (_, new_unit) in units.items() if new_unit == target
        ):
            for pixels in chips(unit):
                arrays = compute_planes(
                    convert_unit(pixels, units[unit][0], target), bands, planes
                )
                histograms = histograms or [Histogram() for _ in planes]
                for histogram, plane in zip(histograms, arrays, strict=True):
                    histogram.add(plane)
        fits = [histogram.fit(option, target, is_physical) for histogram in histograms]
        stretches[target], statistics[target] = (
            tuple(x) for x in zip(*fits, strict=True)
        )
    return stretches, statistics


# of images that OpenCV shrinks by area averaging, unless each side shrinks by a whole
# factor
_BANDS = 4


def resize_image(image: Pixels, size: tuple[int, int], *, by_area: bool) -> Pixels:
    """Resize an image by area averaging, or by bilinear interpolation.

    Args:
        image: (h, w, B).
        size: H and W of the result.
        by_area: whether to average areas, for images that shrink.

    Returns:
        Image (H, W, B) of the same data type.
    """
    method = cv2.INTER_AREA if by_area else cv2.INTER_LINEAR
    is_divided = any(
        side % new_side for side, new_side in zip(image.shape[:2], size, strict=True)
    )
    count = _BANDS if by_area and is_divided else image.shape[2]
    groups = [
        np.ascontiguousarray(image[:, :, start : start + count])
        for start in range(0, image.shape[2], count)
    ]
    resized = [
        cv2.resize(group, size[::-1], interpolation=method).reshape(*size, -1)
        for group in groups
    ]
    if len(resized) == 1:
        return resized[0]
    return np.concatenate(resized, axis=2)


SPACING_TOLERANCE = 0.1
"""Largest accepted relative difference of the pixel spacing. Augmentation scales by 15
% (sar) or 20 % (optical)."""


class Contract(_Frozen):
    """Properties of the chips that a model was trained on.

    A chip that does not match is an error, never a guess.

    Attributes:
        units: units in which planes are computed, with one stretch per plane. A chip in
            another unit is converted to the first of them to which a conversion exists.
        digital: meaning of the digital numbers of uint8 and uint16 chips, such as
            "amplitude"; None if unknown.
        bands: names of the bands of the training chips, in the order of their files. A
            chip needs only `used_bands`.
        planes: channels of the network's input, each an expression over bands; they may
            repeat.
        crop: side of the center crop before resizing, in pixels; None takes the whole
            chip.
        size: side of the network's input in pixels.
        mean: mean of each plane of the network's input, 0-1.
        std: standard deviation of each plane of the network's input, 0-1.
        statistics: statistics of each plane of the training chips, by unit, if a
            stretch was measured.
        spacing_m: pixel spacing of the training chips in meters; None if it varies, or
            is unknown for half of them.
        chip_standard: whether each chip is normalized by its own mean and standard
            deviation, over all planes and pixels, instead of by `mean` and `std`, which
            are 0 and 1 then.
        side: side in pixels of most training chips, which chips of scenes get; None if
            no side is that common, with `crop`, or in bundles of rsft 0.2.
    """

    units: Stretches
    digital: str | None = None
    bands: tuple[str, ...]
    planes: tuple[str, ...]
    crop: int | None
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    statistics: dict[str, tuple[Statistics, ...]] = {}
    spacing_m: float | None = None
    chip_standard: bool = False
    side: int | None = None

    @model_serializer(mode="wrap")
    def _leave_out_defaults(
        self, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        """Write the fields of rsft 0.2, and newer ones with another value, so that hashes of bundles are the same."""
        newer = {"chip_standard": False, "side": None}
        return {
            key: value
            for key, value in serialize(self).items()
            if key not in newer or value != newer[key]
        }

    @property
    def clipping_note(self) -> str:
        """Names the share of the training chips whose brightest pixels the stretch clips, by plane; "" if none."""
        planes = [
            item
            for unit in self.statistics.values()
            for item in zip(self.planes, unit, strict=True)
        ]
        shares = dict.fromkeys(
            f"{x.clipped:.1%} (plane {plane})" for plane, x in planes if x.clipped
        )
        if not shares:
            return ""
        return (
            "the brightest pixel is cut in a share of the training chips:"
            f" {', '.join(shares)}; see data.stretch"
        )

    @property
    def used_bands(self) -> tuple[str, ...]:
        """Names of the bands that the planes are computed from, in the order of `bands`. A chip needs no others."""
        return _used_bands(self.planes, self.bands)

    def band_indices(self, count: int, names: Sequence[str] | None) -> list[int]:
        """Return where a file with `count` bands has the bands that the planes are computed from.

        Without names, a file with as many bands as the training chips has them in the
        same order, and all bands of any other file are returned.

        Returns:
            Indices of `used_bands` in the file, from 0.

        Raises:
            DataError: the number of names does not match, or a band is missing.
        """
        used = self.used_bands
        if names is not None and len(names) != count:
            hint = "give one name per band of the file, in its order, with --bands"
            raise DataError(
                f"{count} bands, but {len(names)} names ({', '.join(names)})", hint=hint
            )
        if names is None or (used == ("gray",) and count == 1):
            if count == len(self.bands):
                return [self.bands.index(band) for band in used]
            return list(range(count))
        if not set(used) <= set(names):
            hint = (
                f"give a file with {', '.join(used)}; --bands only names the bands of a"
                " file that does not name them"
            )
            raise DataError(
                f"bands {', '.join(names)}, but the model takes {', '.join(used)}",
                hint=hint,
            )
        return [names.index(band) for band in used]

    def assumed_bands(self, count: int, names: Sequence[str] | None) -> tuple[str, ...]:
        """Return what the bands of a file without names are taken for, if their order matters; else an empty tuple.

        One band has no order, and R, G, B is the order of image files.
        """
        orders = [
            bands for bands in (self.bands, self.used_bands) if len(bands) == count
        ]
        is_certain = (
            names is not None
            or count == 1
            or not orders
            or orders[0] == ("R", "G", "B")
        )
        if is_certain:
            return ()
        return orders[0]

    def select_bands(self, pixels: Pixels, bands: Sequence[str] | None) -> Pixels:
        """Return a chip (H, W, B) with `used_bands` alone, in order; without names, see `band_indices`.

        Returns:
            Pixels (H, W, B) with `used_bands`, in order.

        Raises:
            DataError: the number of names does not match, or a band is missing.
        """
        indices = self.band_indices(pixels.shape[2], bands)
        if indices == list(range(pixels.shape[2])):
            return pixels
        return pixels[:, :, indices]

    def check(self, pixels: Pixels, unit: str | None = None) -> tuple[str, str]:
        """Check a chip (H, W, B) with `used_bands`, or with `bands`, against the contract.

        The unit of integers defaults to `digital`, or to their data type if it is None.

        Returns:
            Unit of the chip, and the unit in which its planes are computed.

        Raises:
            DataError: the bands or the unit do not match, or the values cannot be in
                this unit.
        """
        unit, target_unit = self.check_header(str(pixels.dtype), pixels.shape[2], unit)
        pixel_units.check_unit(pixels, unit)
        return unit, target_unit

    def check_header(
        self, dtype: str, bands: int, unit: str | None = None
    ) -> tuple[str, str]:
        """Check the data type, the number of bands and the unit of a file before its pixels are read.

        Args:
            dtype: data type of the pixels, such as "uint16".
            bands: number of bands.
            unit: declared unit; integers default to `digital`, or to their data type if
                it is None.

        Returns:
            Unit of the chip, and the unit in which its planes are computed.

        Raises:
            DataError: the number of bands or the unit does not match, or the data type
                cannot carry the unit.
        """
        used = self.used_bands
        if bands not in (len(used), len(self.bands)):
            message = (
                f"{bands} bands, but the model takes {len(used)} ({', '.join(used)})"
            )
            raise DataError(
                message,
                hint=(
                    "give the names of the bands, in the order of the file, with"
                    " --bands"
                ),
            )
        accepted = " or ".join(self.units)
        if unit:
            unit = pixel_units.parse_unit(unit)
        else:
            unit = dtype if dtype in DIGITAL_UNITS else None
        unit = self.digital or unit if unit in DIGITAL_UNITS else unit
        if unit is None:
            message = (
                f"{dtype} pixels without a declared unit, but the model takes"
                f" {accepted}"
            )
            raise DataError(message, hint=pixel_units.UNIT_HINT)
        pixel_units.check_dtype(dtype, unit)
        targets = [target for target in (unit, *self.units) if target in self.units]
        target_unit = next(
            (target for target in targets if pixel_units.can_convert(unit, target)),
            None,
        )
        if target_unit is None:
            raise DataError(
                f"{unit} pixels, but the model takes {accepted}",
                hint=f"{pixel_units.conversion_hint(unit, next(iter(self.units)))} (--unit)",
            )
        return unit, target_unit

    def check_spacing(self, spacing: Sequence[float]) -> None:
        """Raise an error if the spacing, in meters per pixel along rows and columns, is not that of the training chips.

        Raises:
            DataError: the relative difference is larger than SPACING_TOLERANCE.
        """
        expected = self.spacing_m
        if expected is not None and any(
            abs(meters / expected - 1) > SPACING_TOLERANCE for meters in spacing
        ):
            actual = " x ".join(dict.fromkeys(f"{meters:.4g}" for meters in spacing))
            raise DataError(
                f"pixels of {actual} m, but the model was trained on {expected:.4g} m",
                hint=f"resample them: --resample-to {expected:g}",
            )

    def to_image(
        self, pixels: Pixels, unit: str | None = None, *, resize: bool = True
    ) -> Bytes:
        """Return the image (size, size, P) of a chip: checked, stretched to bytes, cropped and resized; see `check`.

        Without `resize`, it is (h, w, P), for an augmentation that crops before it
        resizes.

        Returns:
            Image (size, size, P).

        Raises:
            DataError: see `check`.
        """
        pixels = self.select_bands(pixels, None)
        unit, target_unit = self.check(pixels, unit)
        channels = list(zip(self.planes, self.units[target_unit], strict=True))
        distinct = list(
            dict.fromkeys(channels)
        )  # a repeated band is stretched and resized once
        if all(
            stretch.high is not None for _, stretch in distinct
        ):  # otherwise the limits depend on the whole chip
            pixels = center_crop(pixels, self.crop)
        names = [plane for plane, _ in distinct]
        planes = compute_planes(
            convert_unit(pixels, unit, target_unit), self.used_bands, names
        )
        stretched = [
            stretch.to_bytes(plane)
            for plane, (_, stretch) in zip(planes, distinct, strict=True)
        ]
        image = center_crop(np.stack(stretched, axis=2), self.crop)
        if resize and image.shape[:2] != (self.size, self.size):
            image = resize_image(
                image, (self.size, self.size), by_area=min(image.shape[:2]) > self.size
            )
        if channels == distinct:
            return image
        return np.asarray(
            cv2.merge([image[:, :, distinct.index(channel)] for channel in channels]),
            np.uint8,
        )

    @property
    def has_equal_planes(self) -> bool:
        """Whether all planes of an image have the same bytes: they are one band, with one stretch per unit."""
        return all(
            len(set(zip(self.planes, stretches, strict=True))) == 1
            for stretches in self.units.values()
        )

    def normalize(self, images: Sequence[Bytes]) -> NDArray[np.float32]:
        """Scale n images (size, size, P) to 0-1, and normalize them: network inputs (n, P, size, size).

        An image (size, size, 1) has the same bytes in all planes.

        Returns:
            Network inputs (n, P, size, size).
        """
        table = self.byte_values()
        scaled = np.empty(
            (len(images), len(self.planes), self.size, self.size), np.float32
        )
        for image, planes in zip(images, scaled, strict=True):
            image = np.broadcast_to(image, (*image.shape[:2], len(planes)))
            for plane, values, out in zip(
                np.moveaxis(image, 2, 0), table, planes, strict=True
            ):
                cv2.LUT(plane, values, dst=out)
        return standardize_chips(scaled) if self.chip_standard else scaled

    def byte_values(self) -> NDArray[np.float32]:
        """Return what the bytes of each plane become.

        Returns:
            Values of the network's input (P, 256).
        """
        mean = np.asarray(self.mean, np.float32)[:, None]
        std = np.asarray(self.std, np.float32)[:, None]
        values: NDArray[np.float32] = (
            np.arange(256, dtype=np.float32) / np.float32(255) - mean
        ) / std
        return values

    def to_input(self, pixels: Pixels, unit: str | None = None) -> NDArray[np.float32]:
        """Convert a chip to the network's input (P, size, size), without augmentation.

        Returns:
            Network input (P, size, size).
        """
        inputs: NDArray[np.float32] = self.normalize([self.to_image(pixels, unit)])[0]
        return inputs


def standardize_chips(inputs: Any) -> Any:
    """Normalize each of n inputs (n, P, S, S) in 0-1, arrays or tensors, by its own mean and standard deviation."""
    centered = inputs - inputs.mean((1, 2, 3), keepdims=True)
    deviation = ((centered * centered).mean((1, 2, 3), keepdims=True)) ** 0.5
    return centered / (deviation + _MIN_DEVIATION)


@lru_cache(maxsize=256)
def _used_bands(planes: tuple[str, ...], bands: tuple[str, ...]) -> tuple[str, ...]:
    required = set().union(*map(required_bands, planes))
    return tuple(band for band in bands if band in required) or bands


def center_crop(pixels: Pixels, side: int | None) -> Pixels:
    """Return a view of the `side` x `side` pixels in the center of a chip (H, W, B); None returns the whole chip.

    Returns:
        A view of at most `side` x `side` pixels.
    """
    if side is None:
        return pixels
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]
