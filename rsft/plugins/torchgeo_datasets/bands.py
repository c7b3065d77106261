"""Bands and units of the classification data sets of TorchGeo.

TorchGeo states neither the unit of the pixels nor, in most cases, the names of the
bands: datasets.toml has both, each with its source.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsft.errors import RequestError


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
        entry = dict(tables[table.get("same_as", name)])
        groups = []
        for group in entry.pop("groups"):
            names = group.get("names", group["bands"])
            bands = dict(zip(names, group["bands"], strict=True))
            groups.append(BandGroup(bands, group.get("unit"), group.get("scale", 1.0)))
        known[name] = TorchGeoDataset(**entry, groups=tuple(groups))
    return known


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
    from rsft.data.prepare.store_build import parse_unit_option

    unit = unit and parse_unit_option(unit)
    entry = KNOWN.get(name)
    if entry is None:
        return _declare_bands(name, bands, unit)
    if not (unit or entry.groups[0].unit):
        raise _unknown(name, "the unit of its pixels", "--unit sigma0")
    for group in entry.groups:
        names = tuple(group.bands.get(band, band) for band in bands or group.bands)
        if set(names) <= set(group.bands.values()):
            check_bands(names)
            return BandChoice(BandGroup(group.bands, unit) if unit else group, names)
    offers = [
        f"{', '.join(group.bands.values())} ({group.unit or unit})"
        for group in entry.groups
    ]
    raise RequestError(
        f"{name} has no chips of {', '.join(bands or ())}: the bands of a chip have one"
        " unit",
        "--bands",
        f"choose from {'; or '.join(offers)}",
    )


def _declare_bands(
    name: str, bands: Sequence[str] | None, unit: str | None
) -> BandChoice:
    """Return the bands that the user gives for a data set that rsft does not know."""
    from rsft.data.imagery.bands import check_bands

    if not (bands and unit):
        raise _unknown(
            name, "its bands and the unit of its pixels", "--unit uint8 --bands R,G,B"
        )
    check_bands(bands)
    return BandChoice(BandGroup({band: band for band in bands}, unit), (*bands,))


def _unknown(name: str, what: str, example: str) -> RequestError:
    from rsft.data.imagery.units import UNITS

    hint = f"give it, such as {example}; the units are {', '.join(UNITS)}"
    return RequestError(f"rsft does not know {what}", name, hint)
