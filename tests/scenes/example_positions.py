"""Two positions in a scene."""

import numpy as np
from pyproj import Transformer

from tests.helpers.scenes import UTM

PIXELS = np.array([[30.25, 40.5], [90.0, 10.75]])  # row, col


def in_crs(crs):
    x, y = UTM @ (PIXELS[:, 1], PIXELS[:, 0])
    return Transformer.from_crs("EPSG:32633", crs, always_xy=True).transform(x, y)


def middles(positions):
    return np.array([[location.row, location.col] for location in positions.locations])
