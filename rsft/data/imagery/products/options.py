"""Options how the values of a product are read. The command line imports this module for its help."""

from dataclasses import dataclass
from math import isfinite
from typing import Annotated

from rsft.errors import RequestError
from rsft.utils.command_options import Option


@dataclass(frozen=True)
class ProductOptions:
    """How the values of a product are read. `rsft predict` has an option for each field."""

    modulus: Annotated[
        bool,
        Option(
            "Take the modulus |z| of complex scenes (SLC). It is amplitude, unless the product has a calibration.",
            panel="Pixels of the input",
        ),
    ] = False
    factor: Annotated[
        float | None,
        Option(
            "Calibration factor F of a scene in digital numbers DN: sigma0 = F * DN^2. Its provider states F "
            "(10^(dB / 10), if in dB). Sentinel-1, Capella and ICEYE products contain their calibration.",
            "--calibrate",
            "Pixels of the input",
            "F",
        ),
    ] = None
    keep_noise: Annotated[
        bool,
        Option(
            "Do not subtract the thermal noise that a Sentinel-1 product lists: for models of chips that contain it.",
            panel="Pixels of the input",
        ),
    ] = False
    asset: Annotated[
        str | None,
        Option(
            "Assets of a STAC item, such as vv or vv,vh (default: those with the role data).",
            panel="Pixels of the input",
            metavar="NAME",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.factor is not None and not (self.factor > 0 and isfinite(self.factor)):
            message = f"the calibration factor {self.factor:g} is not a positive number"
            raise RequestError(message, "--calibrate", "give the factor F of sigma0 = F * DN^2")


DEFAULT_OPTIONS = ProductOptions()
"""Real values, the product's calibration, without thermal noise."""
