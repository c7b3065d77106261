"""One colour a class, the same in QGIS and on the review page."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

_OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#cc79a7", "#f0e442")
"""Told apart by the colour-blind (Okabe and Ito 2008); black is left for outlines."""

_GOLDEN = 0.618034  # hues by the golden ratio: each new one falls into the widest gap


def colours(classes: Sequence[str]) -> dict[str, str]:
    """Class -> #rrggbb, by its place in the bundle."""
    return {name: _colour(index) for index, name in enumerate(classes)}


def _colour(index: int) -> str:
    if index < len(_OKABE_ITO):
        return _OKABE_ITO[index]
    turn = index - len(_OKABE_ITO)
    value = (0.85, 0.6)[turn % 2]
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(turn * _GOLDEN % 1, 0.65, value))
    return f"#{red:02x}{green:02x}{blue:02x}"
