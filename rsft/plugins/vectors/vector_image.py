"""The chip of a vector: a gray image whose pixels are the bytes of its numbers.

They are, row by row, the length D of the vector and then its numbers, as float32. So
chip stores, caches, bundles and predictions treat a vector as any image, and no digit
is lost. Zeros fill the rest of the image.
"""

import math

import numpy as np

from rsft.types import Bytes, Reals

MIN_SIDE = 8
"""Smallest side of an input in a recipe, in pixels."""

NUMBER_BYTES = 4
"""Bytes of a float32."""


def image_side(length: int) -> int:
    """Return the side in pixels of the image of a vector, an even number."""
    side = math.ceil(math.sqrt(NUMBER_BYTES * (length + 1)))
    return max(MIN_SIDE, side + side % 2)


def vector_to_image(vector: Reals) -> Bytes:
    """Return the image (side, side, 1) of a vector (D,)."""
    side = image_side(len(vector))
    numbers = np.zeros(side * side // NUMBER_BYTES, "<f4")
    numbers[0] = len(vector)
    numbers[1 : 1 + len(vector)] = vector
    return numbers.view(np.uint8).reshape(side, side, 1)
