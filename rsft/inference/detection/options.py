"""Options of the detector of bright objects. The detector itself needs SciPy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rsft.errors import RequestError

LandKeyword = Literal["auto", "brightness", "none"]
"""A keyword of `--land`."""

LandSource = Path | LandKeyword
"""Where the mask of land comes from: a file of polygons, or a keyword of `--land`."""

LAND_KEYWORDS: tuple[LandKeyword, ...] = get_args(LandKeyword)


def parse_land(text: str) -> LandSource:
    """Return the value of `--land`: a keyword, or the path of a file.

    Args:
        text: the text on the command line. `./none` is a file.
    """
    return next((keyword for keyword in LAND_KEYWORDS if keyword == text), Path(text))


@dataclass(frozen=True)
class CfarOptions:
    """Options of the detector.

    Attributes:
        pfa: probability of a false alarm per pixel of water.
        land: file with polygons of land; "auto" for the shorelines of roaring-landmask if it is installed and the scene
            has a georeference, else "brightness"; "brightness" treats large bright regions as land; "none" searches
            everywhere.
    """

    pfa: float = 1e-6
    land: LandSource = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.pfa < 0.1:
            raise RequestError(
                f"the false alarm rate of {self.pfa:g} is not between 0 and 0.1", "--pfa", "give a rate such as 1e-6"
            )
