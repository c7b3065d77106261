"""A simulated Sentinel-1 product with ships that sail, and their AIS messages."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from rsft.plugins.ais.units import EARTH, KNOT
from rsft.scenes.raster import open_scene
from tests.helpers.scenes import simulate_sea
from tests.helpers.sentinel1 import write_product

SIDE = 640
START = pd.Timestamp("2021-01-19T03:16:53.799379Z")

SHIPS = {  # MMSI: row and col where it is, speed in m/s, course in degrees, type
    219000001: (150, 150, 0.0, 0.0, 30),
    219000002: (350, 200, 6.0, 270.0, 70),
    219000003: (420, 450, 5.0, 90.0, 80),
}


class Traffic(NamedTuple):
    """A scene, the file of messages, and where the radar shows the ships, as row and
    column by MMSI."""

    scene: Path
    ais: Path
    places: dict[int, tuple[float, float]]


def radar_row(row: float, col: float, speed: float, course: float) -> float:
    """Displace a ship. Lines run to the south, so the radar looks to the west: this is
    -R v sin(incidence) / V."""
    incidence = np.radians(30 + 16 * col / (SIDE - 1) + 0.1 * row / (SIDE - 1))
    away = speed * np.sin(incidence) * np.cos(np.radians(course - 270))
    return float(row - (800e3 + 150e3 * col / (SIDE - 1)) * away / 7600 / 10)


@pytest.fixture
def traffic(tmp_path) -> Traffic:
    """Return a scene with three ships, an object without AIS, and a ship of AIS that
    the radar does not show."""
    places = {
        mmsi: (radar_row(*ship[:4]), float(ship[1])) for mmsi, ship in SHIPS.items()
    }
    amplitude = 30 * simulate_sea(SIDE, SIDE, looks=8)
    for row, col in [*places.values(), (60.0, 500.0)]:
        top = round(row) - 6
        left = round(col) - 2
        amplitude[top : top + 12, left : left + 4] = 900
    path = write_product(tmp_path, {"vv": amplitude.clip(1).astype(np.uint16)})
    georeference = open_scene(path).georeference
    lines = []
    for mmsi, (row, col, speed, course, code) in {
        **SHIPS,
        219000009: (560, 100, 0.0, 0.0, 60),
    }.items():
        lon, lat = georeference.pixels_to_lonlat(row, col)[0]
        for seconds in (-100, 80):
            x, y, _ = EARTH.fwd(lon, lat, course, speed * (seconds - 1.5e-3 * row))
            time = (START + pd.Timedelta(seconds=seconds)).strftime(
                "%Y-%m-%dT%H:%M:%S.%f"
            )
            lines.append(
                f"{mmsi},{time},{y:.6f},{x:.6f},{speed / KNOT:.3f},{course},{course},SHIP"
                f" {mmsi % 10},{code},120,40"
            )
    ais = tmp_path / "ais.csv"
    ais.write_text(
        "MMSI,BaseDateTime,LAT,LON,SOG,COG,Heading,VesselName,VesselType,Length,Width\n"
        + "\n".join(lines)
        + "\n"
    )
    return Traffic(path, ais, places)
