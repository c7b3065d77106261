"""Choose one color per class, for QGIS and for the review page."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

_OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#0072b2", "#cc79a7", "#f0e442")
"""Colors that color-blind readers can distinguish (Okabe and Ito 2008), without black, which is used for outlines."""

_GOLDEN_RATIO = 0.618034  # a step in hue by the golden ratio puts every new hue into the widest gap


def class_colors(classes: Sequence[str]) -> dict[str, str]:
    """Choose a color for every class, by its index in the bundle.

    Args:
        classes: names of the classes.

    Returns:
        Color of each class as #rrggbb.
    """
    return {name: _color(index) for index, name in enumerate(classes)}


def _color(index: int) -> str:
    if index < len(_OKABE_ITO):
        return _OKABE_ITO[index]
    step = index - len(_OKABE_ITO)
    value = (0.85, 0.6)[step % 2]
    red, green, blue = (round(255 * x) for x in colorsys.hsv_to_rgb(step * _GOLDEN_RATIO % 1, 0.65, value))
    return f"#{red:02x}{green:02x}{blue:02x}"
