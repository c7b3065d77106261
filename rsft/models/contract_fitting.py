"""Fit the contract between pixels and network to the chips of a recipe."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from rsft.backbones import Backbone
from rsft.data.imagery.chip_spec import SPACING_TOLERANCE
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.stretch import CHIP_STANDARD, Stretch, fit_stretches
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.errors import RequestError
from rsft.recipe.schema import DataSection
from rsft.types import Pixels

ReadChips = Callable[[str], Iterable[Pixels]]
"""Returns the training chips with a given unit, (H, W, B) each."""


def fit_contract(
    data: DataSection,
    encoder: Backbone,
    bands: Sequence[str],
    units: Iterable[str],
    chips: ReadChips,
    spacings: Sequence[float] = (),
    sides: Sequence[int] = (),
) -> Contract:
    """Fit the contract; measure the training chips if the stretch depends on them.

    Args:
        data: the section `data` of the recipe.
        encoder: the backbone.
        bands: names of the chips' bands.
        units: units of the chips' pixel values.
        chips: reads the training chips of a unit.
        spacings: meters per pixel of each training chip; NaN if unknown.
        sides: longer side in pixels of some training chips.

    Returns:
        The contract.

    Raises:
        RequestError: the stretch or the unit does not suit the encoder or the planes.
        DataError: a chip cannot be read, or its unit cannot be converted.
    """
    planes = encoder.bands
    is_physical = encoder.unit != "uint8"
    network_unit = data.unit or (encoder.unit if is_physical else None)
    target_units = {}
    for unit in units:
        meaning = data.declare if data.declare and unit in DIGITAL_UNITS else unit
        target_units[unit] = (meaning, network_unit or meaning)
    option: Any = data.stretch
    if not isinstance(option, str):
        pairs = [option] if isinstance(option[0], float) else option
        option = tuple(map(tuple, pairs))
    is_standard = option == CHIP_STANDARD
    if is_standard and is_physical:
        raise RequestError(
            f"{encoder.name} was trained on {encoder.unit}, not on chips that are"
            " normalized one by one",
            "data.stretch",
            "leave the key out",
        )
    stretches, statistics = fit_stretches(
        option, planes, bands, target_units, chips, is_physical
    )
    if is_physical:
        for unit, fitted in stretches.items():
            stretches[unit] = tuple(map(_restore_values, fitted))
    mean, std = _byte_moments(encoder, stretches)
    if is_standard:
        mean = (0.0,) * len(planes)
        std = (1.0,) * len(planes)
    return Contract(
        units=stretches,
        digital=data.declare,
        bands=tuple(bands),
        planes=planes,
        crop=data.crop,
        size=data.size,
        mean=mean,
        std=std,
        statistics=statistics,
        spacing_m=common_spacing(spacings),
        chip_standard=is_standard,
        side=common_side(sides) if data.crop is None else None,
    )


def common_side(sides: Sequence[int]) -> int | None:
    """Return the side that at least half of the chips have; None without one.

    Args:
        sides: longer side of each chip.
    """
    for side, count in Counter(sides).most_common(1):
        if 2 * count >= len(sides):
            return side
    return None


def common_spacing(spacings: Sequence[float]) -> float | None:
    """Return the median spacing of chips.

    It is None unless most spacings are known, and all of these are within the tolerance
    of prediction. Chips of an unknown spacing may be a minority, such as the SLC chips
    of OpenSARShip beside its GRD chips.

    Args:
        spacings: meters per pixel of each chip; NaN if unknown.
    """
    meters = np.asarray(spacings, float)
    finite = meters[np.isfinite(meters)]
    if 2 * len(finite) <= len(spacings):
        return None
    median = float(np.median(finite))
    if np.abs(finite / median - 1).max() <= SPACING_TOLERANCE:
        return median
    return None


def _restore_values(stretch: Stretch) -> Stretch:
    """Return the stretch of an encoder of a physical unit, which takes the values."""
    if stretch.curve == "linear":
        return stretch
    return stretch.model_copy(update={"restored": True})


def _byte_moments(
    encoder: Backbone, stretches: dict[str, tuple[Stretch, ...]]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Convert the encoder's mean and standard deviation to shares of the byte range.

    Those of restored values stay.
    """
    if encoder.unit == "uint8":
        return encoder.mean, encoder.std
    if list(stretches) != [encoder.unit]:
        raise RequestError(
            f"{encoder.name} was trained on {encoder.unit}",
            "data.unit",
            "remove data.unit",
        )
    mean = []
    std = []
    planes = zip(stretches[encoder.unit], encoder.mean, encoder.std, strict=True)
    for stretch, m, s in planes:
        if stretch.high is None:
            raise RequestError(
                f"{encoder.name} needs a stretch between fixed limits",
                "data.stretch",
                "use percentile, log1p, or a pair of limits",
            )
        low = stretch.low
        width = stretch.high - low
        if stretch.restored:
            low = 0.0
            width = 1.0
        mean.append((m - low) / width)
        std.append(s / width)
    return tuple(mean), tuple(std)
