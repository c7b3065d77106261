"""Bands and units of the classification data sets of TorchGeo.

TorchGeo states neither the unit of the pixels nor, in most cases, the names of the
bands: datasets.toml has both, each with its source.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsft.errors import DataError, RequestError


@dataclass(frozen=True)
class BandGroup:
    """Bands of one unit in the images of a data set.

    Attributes:
        bands: rsft's name by TorchGeo's name, in the order of the image.
        unit: unit of the pixels; None if the publishers do not state it.
        scale: factor from TorchGeo's values to this unit; other than 1, values are
            rounded to whole numbers.
    """

    bands: Mapping[str, str]
    unit: str | None
    scale: float = 1.0


@dataclass(frozen=True)
class TorchGeoDataset:
    """What TorchGeo does not state of a data set.

    Attributes:
        classes: number of classes of the published data set.
        source: source of bands and unit.
        groups: bands by unit; the first group is the default.
        spacing_m: pixel spacing in meters; None if it varies.
        resized: whether TorchGeo resizes some images, so that their values are rounded
            again.
    """

    classes: int
    source: str
    groups: tuple[BandGroup, ...]
    spacing_m: float | None = None
    resized: bool = False


@dataclass(frozen=True)
class BandChoice:
    """Bands to load from a data set, and those to store.

    Attributes:
        group: the bands to load.
        names: rsft's names of the bands to store.
    """

    group: BandGroup
    names: tuple[str, ...]


def _read_known() -> dict[str, TorchGeoDataset]:
    path = Path(__file__).with_name("datasets.toml")
    tables = tomllib.loads(path.read_text("utf-8"))
    known = {}
    for name, table in tables.items():
        entry = tables[table.get("same_as", name)]
        groups = tuple(map(_make_group, entry["groups"]))
        known[name] = TorchGeoDataset(**{**entry, "groups": groups})
    return known


def _make_group(table: Mapping[str, Any]) -> BandGroup:
    bands = table["bands"]
    names = table.get("names", bands)
    lookup = dict(zip(names, bands, strict=True))
    return BandGroup(lookup, table.get("unit"), table.get("scale", 1.0))


KNOWN = _read_known()
"""Bands and units by the name of TorchGeo's class."""


def choose_bands(
    name: str, bands: Sequence[str] | None, unit: str | None
) -> BandChoice:
    """Return the bands to load and to store.

    Args:
        name: TorchGeo's class.
        bands: requested bands, by the name of rsft or TorchGeo; of an unknown data set
            all bands in order.
        unit: unit to declare; None takes the known one.

    Raises:
        RequestError: a band is no band of this data set, bands of different units are
            requested, or unit or bands are unknown.
    """
    from rsft.data.imagery.bands import check_bands

    unit = unit and _parse_unit(unit)
    entry = KNOWN.get(name)
    if entry is None:
        if not (bands and unit):
            _refuse_unknown(name, bands, unit, "--unit and --bands")
        check_bands(bands or ())
        lookup = {band: band for band in bands or ()}
        return BandChoice(BandGroup(lookup, unit), tuple(lookup))
    if not (unit or entry.groups[0].unit):
        _refuse_unknown(name, [*entry.groups[0].bands], unit, "--unit")
    choice = _find_group(entry, bands)
    if choice is None:
        offers = [
            f"{', '.join(group.bands.values())} ({group.unit or unit})"
            for group in entry.groups
        ]
        raise RequestError(
            f"{name} has no chips of {', '.join(bands or ())}: the bands of a chip have"
            " one unit",
            "--bands",
            f"choose from {'; or '.join(offers)}",
        )
    check_bands(choice.names)
    if unit:
        return BandChoice(BandGroup(choice.group.bands, unit), choice.names)
    return choice


def _find_group(
    entry: TorchGeoDataset, bands: Sequence[str] | None
) -> BandChoice | None:
    """Return the first group with all requested bands, or None."""
    for group in entry.groups:
        names = tuple(group.bands.get(band, band) for band in bands or group.bands)
        if set(names) <= set(group.bands.values()):
            return BandChoice(group, names)
    return None


def _parse_unit(text: str) -> str:
    from rsft.data.imagery.units import parse_unit

    try:
        return parse_unit(text)
    except DataError as error:
        raise RequestError(
            error.message, "--unit", "correct the name of the unit"
        ) from error


def _refuse_unknown(
    name: str, bands: Sequence[str] | None, unit: str | None, options: str
) -> None:
    """Raise RequestError for a data set whose bands or unit must be given."""
    from rsft.data.imagery.units import UNITS

    missing = []
    if not bands:
        missing.append("its bands")
    if not unit:
        missing.append("the unit of its pixels")
    examples = {"--unit": "--unit sigma0"}
    example = examples.get(options, "--unit uint8 --bands R,G,B")
    raise RequestError(
        f"rsft does not know {' and '.join(missing)}",
        name,
        f"give {options}, such as {example}; the units are {', '.join(UNITS)}",
    )
