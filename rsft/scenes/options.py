"""Properties of the pixels of scenes and chips, as a user or a chip store declares them.

The command line imports this module for its help, so it imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from rsft.errors import DataError, RequestError
from rsft.utils.command_options import Option

_pix = partial(Option, panel="Pixels of the input")


def unit_name(text: str) -> str:
    """Return the unit that a text such as "dB" names.

    Raises:
        RequestError: the text is not a unit.
    """
    from rsft.data.imagery.units import parse_unit

    try:
        return parse_unit(text)
    except DataError as error:
        hint = "correct the name of the unit"
        raise RequestError(error.message, "--unit", hint) from error


@dataclass(frozen=True)
class Declaration:
    """Properties of the pixels of a file, as the user or a chip store declares them; None if not declared.

    Attributes:
        unit: unit of the pixels, such as "sigma0".
        bands: names of the bands, in the order of the file.
        spacing_m: pixel spacing in meters.
        is_chip: whether the file is a chip of a chip store, however large it is.
    """

    unit: Annotated[
        str | None,
        _pix(
            "Unit, if the files do not declare it: amplitude, intensity, sigma0, db,"
            " gamma0, gamma0_db or beta0.",
            parse=unit_name,
        ),
    ] = None
    bands: Annotated[
        tuple[str, ...] | None,
        _pix(
            "Bands in the order of the file, such as VH,VV (default: as the file or the"
            " bundle names them)."
        ),
    ] = None
    spacing_m: float | None = None
    is_chip: bool = False

    def merge(self, other: Declaration) -> Declaration:
        """Return a copy whose missing fields are taken from another declaration."""
        return Declaration(
            self.unit or other.unit,
            self.bands or other.bands,
            self.spacing_m or other.spacing_m,
            self.is_chip or other.is_chip,
        )


UNDECLARED = Declaration()
"""A declaration without any property."""


@dataclass(frozen=True)
class ChipOptions:
    """Size of chips and of their pixels.

    None takes a value from the contract or the file.

    With a margin, each chip is as large as its box and this margin.
    """

    side: Annotated[
        int | None, _pix("Chip size in pixels (default: the bundle's).", min=1)
    ] = None
    margin: Annotated[
        int | None, _pix("Cut chips along boxes, with this margin in pixels.", min=0)
    ] = None
    resample_to: Annotated[
        float | None, _pix("Resample chips to this pixel spacing in meters.", min=0.001)
    ] = None
    spacing: Annotated[
        float | None,
        _pix("Pixel spacing in meters, if a file has no georeference.", min=0.001),
    ] = None
