"""Options how the values of a product are read.

The command line imports this module for its help.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from rsft.errors import RequestError

_FLAGS = {
    "modulus": "modulus",
    "keep-noise": "keep_noise",
    "gamma0-to-sigma0": "gamma0_to_sigma0",
}
"""Field of each value of `--read` that has no value of its own."""

_HINT = "give modulus, keep-noise, gamma0-to-sigma0, calibrate=F or asset=NAME"

READ_HELP = (
    "How scenes are read; repeatable. modulus: take |z| of complex scenes (SLC)."
    " keep-noise: do not subtract the thermal noise that a Sentinel-1 product lists."
    " gamma0-to-sigma0: sigma0 = gamma0 * cos(theta), which is right for the sea and"
    " wrong on slopes. calibrate=F: sigma0 = F * DN^2, where the provider states F."
    " asset=NAME: the asset of a STAC item, or several such as vv,vh."
)
"""Help of the option `--read`."""


@dataclass(frozen=True)
class ProductOptions:
    """How the values of a product are read.

    Attributes:
        modulus: take the modulus |z| of complex scenes. It is amplitude, unless the
            product has a calibration.
        factor: calibration factor F of digital numbers DN: sigma0 = F * DN^2.
        keep_noise: do not subtract the thermal noise that a product lists.
        gamma0_to_sigma0: convert gamma0 to sigma0 with the incidence angle at the
            ellipsoid.
        asset: names of the assets of a STAC item, separated by commas; None takes those
            with the role data.
    """

    modulus: bool = False
    factor: float | None = None
    keep_noise: bool = False
    gamma0_to_sigma0: bool = False
    asset: str | None = None

    def __post_init__(self) -> None:
        if self.factor is None:
            return
        if self.gamma0_to_sigma0:
            message = "calibrate and gamma0-to-sigma0 cannot be used together"
            hint = "leave out calibrate for pixels that are gamma0"
            raise RequestError(message, "--read", hint)
        if not (self.factor > 0 and isfinite(self.factor)):
            message = f"the calibration factor {self.factor:g} is not a positive number"
            hint = "give the factor F of sigma0 = F * DN^2"
            raise RequestError(message, "--read calibrate", hint)


DEFAULT_OPTIONS = ProductOptions()
"""Real values, the product's calibration, without thermal noise."""


def parse_product_options(texts: Sequence[str]) -> ProductOptions:
    """Return the options that values of `--read` name.

    Raises:
        RequestError: a text is no option.

    Example:
        >>> parse_product_options(["modulus", "asset=vv"]).asset
        'vv'
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if text in _FLAGS:
            values[_FLAGS[text]] = True
        elif name == "asset" and value:
            values["asset"] = value
        elif name == "calibrate":
            values["factor"] = _parse_factor(value)
        else:
            raise RequestError(f"{text!r} is no way to read scenes", "--read", _HINT)
    return ProductOptions(**values)


def _parse_factor(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise RequestError(
            f"the calibration factor {text!r} is no number",
            "--read calibrate",
            "give the factor F of sigma0 = F * DN^2",
        ) from error
