"""The names and the unit of bands, as a raster states them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rsft.data.imagery.bands import BANDS, POLARIZATIONS
from rsft.errors import DataError
from rsft.types import Names

_NAMES = {
    "name",
    "netcdf_varname",
    "long_name",
    "band_name",
    "bandname",
    "polarization",
    "polarisation",
    "description",
}
_POLARIZATION = re.compile(rf"(?<![A-Z0-9])({'|'.join(POLARIZATIONS)})(?![A-Z0-9])")
_MEASUREMENT = re.compile(r"s1[a-d]-\w+-\w+-(vv|vh|hh|hv)-", re.IGNORECASE)
"""Name of a file of Sentinel-1, which may lie outside of its folder."""

_UNIT_TAGS = {
    "db": "db",
    "decibel": "db",
    "decibels": "db",
    "amplitude": "amplitude",
    "intensity": "intensity",
    "gamma0_db": "gamma0_db",
}
for _name in ("sigma", "gamma", "beta"):
    for _end in ("0", "_0", " nought", "_nought"):
        _UNIT_TAGS[_name + _end] = f"{_name}0"


def read_band_names(file: Any) -> Names | None:
    """Return the names of the bands of an open raster.

    The name of a band comes from its description ("VV", "Sigma0_VV_db", "B4"), else
    from its tags (name, long_name, polarization and others). A raster of one band may
    also have it in the tags of the file, or in the name of a Sentinel-1 measurement.

    Returns:
        Names from `BANDS`; None if a name is unknown, repeated or no text.
    """
    try:
        descriptions = file.descriptions
    except UnicodeDecodeError:
        return None
    names = []
    for number, description in zip(file.indexes, descriptions, strict=True):
        texts = [description or "", *_name_tags(file.tags(number))]
        if file.count == 1:
            match = _MEASUREMENT.match(Path(file.name).name)
            texts += [*_name_tags(file.tags()), match[1] if match else ""]
        names.append(next(filter(None, map(parse_band_name, texts)), None))
    known = tuple(name for name in names if name is not None)
    return known if len(set(known)) == file.count else None


def _name_tags(tags: Mapping[str, str]) -> list[str]:
    return [value for key, value in tags.items() if key.lower() in _NAMES]


def parse_band_name(text: str) -> str | None:
    """Return the band that a text such as "Sigma0_VV_db" or "B4" names.

    Returns:
        The band; None if the text names none, or two polarizations.
    """
    text = re.sub(r"^B(\d)$", r"B0\1", text.strip().upper())
    for name in BANDS:
        if text == name.upper():
            return name
    polarizations = set(_POLARIZATION.findall(text))
    return polarizations.pop() if len(polarizations) == 1 else None


def read_unit(files: Iterable[Any], path: object) -> str | None:
    """Return the unit that the bands of open rasters declare, see `unit_from_tags`.

    Raises:
        DataError: bands have different units, or a unit is no text.
    """
    units = []
    try:
        for file in files:
            units += file.units
    except UnicodeDecodeError as error:
        raise DataError(
            f"the unit of a band is no text: {error}", path, "remove it from the file"
        ) from error
    return unit_from_tags(units, path)


def unit_from_tags(units: Iterable[str | None], path: object) -> str | None:
    """Return the unit that GDAL's unit types of the bands, such as "dB", declare.

    Returns:
        The unit; None if no tag names a unit that rsft knows.

    Raises:
        DataError: bands have different units.
    """
    tags = {(unit or "").strip().lower() for unit in units}
    names = sorted({_UNIT_TAGS[tag] for tag in tags if tag in _UNIT_TAGS})
    if len(names) > 1:
        raise DataError(
            f"the bands have several units: {', '.join(names)}",
            path,
            "give a file with one unit",
        )
    return names[0] if names else None
