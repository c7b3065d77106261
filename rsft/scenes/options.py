"""Options for the pixels and chips of scenes, as a user or a chip store states them.

The command line imports this module for its help, so it imports nothing heavy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple

from rsft.data.prepare.store_build import parse_unit_option
from rsft.errors import RequestError
from rsft.utils.command_options import Option

_pix = partial(Option, panel="Pixels of the input")
_NUMBER = r"(?=[0-9.]*[1-9])[0-9]+(?:\.[0-9]+)?"
_SIZE = re.compile(rf"([1-9][0-9]*)|({_NUMBER})m|box(?:\+([0-9]+))?")


@dataclass(frozen=True)
class Declaration:
    """Properties of the pixels of a file that the user or a chip store declares.

    What is not declared is None.

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
            " gamma0, gamma0_db, beta0 or sentinel1_dn.",
            parse=parse_unit_option,
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


class ChipSize(NamedTuple):
    """How large chips are: a side, or boxes with a margin.

    Attributes:
        pixels: side in pixels of the chip.
        meters: side in meters.
        margin: number of pixels around the box of each object.
    """

    pixels: int | None = None
    meters: float | None = None
    margin: int | None = None

    @classmethod
    def parse(cls, text: str) -> ChipSize:
        """Return the size that a value of --size names.

        Raises:
            RequestError: the text is no size.

        Example:
            >>> ChipSize.parse("640m")
            ChipSize(pixels=None, meters=640.0, margin=None)
            >>> ChipSize.parse("box+8")
            ChipSize(pixels=None, meters=None, margin=8)
        """
        match = _SIZE.fullmatch(text.strip())
        if not match:
            raise RequestError(
                f"{text!r} is no size of a chip",
                "--size",
                "give pixels (64), meters (640m), or boxes with a margin (box+8)",
            )
        pixels, meters, margin = match.groups()
        if pixels:
            return cls(pixels=int(pixels))
        if meters:
            return cls(meters=float(meters))
        return cls(margin=int(margin or 0))

    def __str__(self) -> str:
        """Return the value of --size."""
        if self.pixels:
            return str(self.pixels)
        if self.meters:
            return f"{self.meters:g}m"
        return f"box+{self.margin}"


@dataclass(frozen=True)
class ChipOptions:
    """Size of chips and of their pixels.

    None takes a value from the contract or the file.
    """

    size: Annotated[
        ChipSize | None,
        _pix(
            "Chip size in pixels (64) or meters (640m), or box+8: along the box of each"
            " object, with a margin of 8 pixels (default: the bundle's).",
            metavar="SIZE",
            parse=ChipSize.parse,
        ),
    ] = None
    resample_to: Annotated[
        float | None, _pix("Resample chips to this pixel spacing in meters.", min=0.001)
    ] = None
    spacing: Annotated[
        float | None,
        _pix("Pixel spacing in meters, if a file has no georeference.", min=0.001),
    ] = None
