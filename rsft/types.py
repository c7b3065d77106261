"""Type aliases and constants that several packages share."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
"""(H, W, B): B bands, in the order in which their names are given."""

Plane = NDArray[Any]
"""(H, W): one band, or one expression over bands."""

Bytes = NDArray[np.uint8]
"""Pixels or planes after the stretch, 0-255."""

Floats = NDArray[np.float64]
"""Coordinates or measurements in double precision."""

Floats32 = NDArray[np.float32]
"""Numbers in single precision, such as inputs and outputs of networks."""

Indices = NDArray[np.int64]
"""Indices of chips in a store or in a batch."""

Mask = NDArray[np.bool_]
"""True at chosen entries, such as the pixels (H, W) of a plane."""

Labels = NDArray[np.integer]
"""Class indices, of any integer type."""

Reals = NDArray[np.floating]
"""Numbers of any floating-point type."""

Progress = Callable[[int, int, str], None]
"""Called with the amount done, the total (0 if it is unknown), and the name of the
task."""

JsonObject = dict[str, Any]
"""An object in JSON, or a document with such keys."""

Names = tuple[str, ...]
"""Names of bands, classes or files, in order."""

Rejection = tuple[str, int, str]
"""A rejected entry: file, line (0 for the whole file), and reason."""

Bands = tuple[str, ...]
"""Names of the bands of a chip or a file, in its order."""

Size = tuple[int, int]
"""Height and width in pixels."""

Spacing = tuple[float, float]
"""Pixel spacing in meters, along columns and along rows."""

Box = tuple[float, ...]
"""Corners r1 c1 ... r4 c4 of a rectangle in pixels, which may be rotated."""

LONLAT = "EPSG:4326"
"""Longitude and latitude in degrees, WGS 84."""

GROUPS = ("head", "medium", "tail")
"""The long-tail groups of classes, from frequent to rare."""
