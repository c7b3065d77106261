"""Options how the values of a product are read.

The command line imports this module for its help.
"""

from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Annotated

from rsft.errors import RequestError
from rsft.utils.command_options import Option

_option = partial(Option, panel="Pixels of the input")


@dataclass(frozen=True)
class ProductOptions:
    """How the values of a product are read.

    `rsft predict` has an option for each field.
    """

    modulus: Annotated[
        bool,
        _option(
            "Take the modulus |z| of complex scenes (SLC). It is amplitude, unless the"
            " product has a calibration."
        ),
    ] = False
    factor: Annotated[
        float | None,
        _option(
            "Calibration factor F of a scene in digital numbers DN: sigma0 = F * DN^2."
            " Its provider states F (10^(dB / 10), if in dB). The products of most"
            " sensors contain their calibration.",
            name="--calibrate",
            metavar="F",
        ),
    ] = None
    keep_noise: Annotated[
        bool,
        _option(
            "Do not subtract the thermal noise that a Sentinel-1 product lists: for"
            " models of chips that contain it."
        ),
    ] = False
    gamma0_to_sigma0: Annotated[
        bool,
        _option(
            "Convert gamma0 to sigma0 = gamma0 * cos(theta), with the incidence angle"
            " theta at the ellipsoid. This is right for the sea and wrong on slopes."
        ),
    ] = False
    asset: Annotated[
        str | None,
        _option(
            "Assets of a STAC item, such as vv or vv,vh (default: those with the role"
            " data).",
            metavar="NAME",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.factor is not None and self.gamma0_to_sigma0:
            message = "--calibrate and --gamma0-to-sigma0 cannot be used together"
            raise RequestError(
                message, hint="leave out --calibrate for pixels that are gamma0"
            )
        if self.factor is not None and not (self.factor > 0 and isfinite(self.factor)):
            message = f"the calibration factor {self.factor:g} is not a positive number"
            raise RequestError(
                message, "--calibrate", "give the factor F of sigma0 = F * DN^2"
            )


DEFAULT_OPTIONS = ProductOptions()
"""Real values, the product's calibration, without thermal noise."""
