"""Names of the bands that a raster file declares, and their comparison with declared names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rsft.data.imagery.bands import BANDS, POLARIZATIONS
from rsft.data.imagery.open_raster import read_tiff_tags
from rsft.errors import DataError

_TAGS = frozenset(
    ("name", "netcdf_varname", "long_name", "band_name", "bandname", "polarization", "polarisation", "description")
)
_SPELLINGS = {name.upper(): name for name in BANDS}
_POLARIZATION = re.compile(rf"(?<![A-Z0-9])({'|'.join(POLARIZATIONS)})(?![A-Z0-9])")
_SENTINEL1 = re.compile(r"s1[a-d]-\w+-\w+-(vv|vh|hh|hv)-", re.IGNORECASE)  # names of files in measurement/


def read_band_names(file: Any) -> tuple[str, ...] | None:
    """Return the names of the bands of an open raster.

    The name of a band comes from its description ("VV", "Sigma0_VV_db", "B4"), else from its tags (name, long_name,
    polarization and others). A raster of one band may also have it in the tags of the file, or in the name of a
    Sentinel-1 measurement.

    Args:
        file: the dataset, opened by rasterio.

    Returns:
        Names from `BANDS`; None if a name is unknown or repeated.
    """
    names = []
    for number, description in zip(file.indexes, file.descriptions, strict=True):
        texts = [description or "", *_tag_values(file.tags(number))]
        if file.count == 1:
            match = _SENTINEL1.match(Path(file.name).name)
            texts += [*_tag_values(file.tags()), match[1] if match else ""]
        names.append(next((name for name in map(parse_band_name, texts) if name), None))
    known = tuple(name for name in names if name is not None)
    return known if len(set(known)) == file.count else None


def read_band_names_of(path: Path) -> tuple[str, ...] | None:
    """Return the names of the bands of a TIFF file.

    Args:
        path: path of any image file.

    Returns:
        The names, see `read_band_names`; None if the file is no TIFF, or has no names.
    """
    return read_tiff_tags(path, read_band_names)


def check_declared_bands(declared: Sequence[str] | None, actual: Sequence[str] | None, path: object) -> None:
    """Raise an error if declared names contradict those in the file.

    "gray" contradicts no name, and a name that rsft does not know contradicts none either.

    Args:
        declared: names that the user declared with --bands; None if none were declared.
        actual: names in the file; None if it has none.
        path: path of the file.

    Raises:
        DataError: a band has another name in the file.
    """
    if declared is None or actual is None or len(declared) != len(actual):  # a wrong number is another error
        return
    pairs = [pair for pair in zip(declared, actual, strict=True) if "gray" not in pair and pair[0] in BANDS]
    if any(name != file_name for name, file_name in pairs):
        message = f"the file names its bands {', '.join(actual)}, but {', '.join(declared)} was declared"
        raise DataError(message, path, "leave out --bands; if the names in the file are wrong, correct them there")


def _tag_values(tags: Mapping[str, str]) -> Iterable[str]:
    return [value for key, value in tags.items() if key.lower() in _TAGS]


def parse_band_name(text: str) -> str | None:
    """Return the band that a text names; None if it names none, or two polarizations.

    Args:
        text: a text such as "Sigma0_VV_db" or "B4".
    """
    text = re.sub(r"^B(\d)$", r"B0\1", text.strip().upper())
    if text in _SPELLINGS:
        return _SPELLINGS[text]
    polarizations = set(_POLARIZATION.findall(text))
    return polarizations.pop() if len(polarizations) == 1 else None
