"""The ellipsoid of positions, and the unit of speeds in AIS messages."""

from pyproj import Geod

EARTH = Geod(ellps="WGS84")
KNOT = 1852 / 3600
"""Meters per second."""
