"""The contract that a recipe makes with its training chips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from rsft.backbones import Backbone
from rsft.data.imagery.bands import compute_planes
from rsft.data.imagery.contract import SPACING_TOLERANCE, Contract
from rsft.data.imagery.stretch import (
    Statistics,
    Stretch,
    declared_stretches,
    measure,
    measured_stretch,
    needs_measuring,
)
from rsft.data.imagery.units import DIGITAL, convert
from rsft.errors import RequestError
from rsft.recipe.schema import Recipe
from rsft.types import Pixels

Chips = Callable[[str], Iterable[Pixels]]  # a unit of the training chips -> each of them (H, W, B)


def contract_of(
    recipe: Recipe,
    encoder: Backbone,
    bands: Sequence[str],
    units: Iterable[str],
    chips: Chips,
    spacings: Sequence[float] = (),
) -> Contract:
    """What this recipe demands of a chip with `bands` in one of `units`; measures the training chips where it must.

    Args:
        spacings: metres a pixel of the training chips, one each; NaN where a chip does not say.

    Raises:
        RequestError: a stretch or unit that the encoder or the planes do not take.
        DataError: a chip that cannot be read, or whose unit cannot become the wanted one.
    """
    data, planes = recipe.data, encoder.bands
    found = {unit: data.declare if data.declare and unit in DIGITAL else unit for unit in units}
    wanted = data.unit or (encoder.unit if encoder.unit != "uint8" else None)
    targets = {unit: wanted or means for unit, means in found.items()}
    wish = data.stretch if isinstance(data.stretch, str) else _pairs(data.stretch)
    stretches: dict[str, tuple[Stretch, ...]] = {}
    statistics: dict[str, tuple[Statistics, ...]] = {}
    for target in dict.fromkeys(targets.values()):
        if needs_measuring(wish, target):
            statistics[target] = measure(
                compute_planes(convert(pixels, found[unit], target), bands, planes)
                for unit in found
                if targets[unit] == target
                for pixels in chips(unit)
            )
            stretches[target] = tuple(measured_stretch(wish, each) for each in statistics[target])
        else:
            stretches[target] = declared_stretches(wish, len(planes))
    mean, std = _byte_moments(encoder, stretches)
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
        spacing_m=_common(spacings),
    )


def _common(spacings: Sequence[float]) -> float | None:
    """The spacing of all training chips, if all say one and they differ by no more than prediction will allow."""
    if not len(spacings) or not np.isfinite(spacings).all():
        return None
    middle = float(np.median(spacings))
    return middle if np.abs(np.asarray(spacings) / middle - 1).max() <= SPACING_TOLERANCE else None


def _pairs(stretch: Sequence[float] | Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    pairs = [stretch] if isinstance(stretch[0], float) else stretch
    return tuple((low, high) for low, high in pairs)  # type: ignore[misc]


def _byte_moments(
    encoder: Backbone, stretches: dict[str, tuple[Stretch, ...]]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The encoder's mean and deviation as parts of the byte range, whatever unit they were declared in."""
    if encoder.unit == "uint8":
        return encoder.mean, encoder.std
    if list(stretches) != [encoder.unit]:
        raise RequestError(f"{encoder.name} was trained on {encoder.unit}", "data.unit", "leave it out")
    mean, std = [], []
    for stretch, m, s in zip(stretches[encoder.unit], encoder.mean, encoder.std, strict=True):
        if stretch.high is None or stretch.curve != "linear":
            fix = "use percentile, or limits"
            raise RequestError(f"{encoder.name} takes a linear stretch between fixed limits", "data.stretch", fix)
        mean.append((m - stretch.low) / (stretch.high - stretch.low))
        std.append(s / (stretch.high - stretch.low))
    return tuple(mean), tuple(std)
