"""The reader cell reads chips and records of OpenSARShip as this process does."""

import numpy as np

from rsft.plugins.opensarship.opensarship import OpenSARShip
from rsft.plugins.opensarship.ship_files import (
    read_opensarship_pixels,
    read_ship_records,
)
from rsft.utils.cell.processes import ReaderCell
from rsft.utils.cell.walls import Walls
from tests.plugins.opensarship.data import GRD, write_scene


def test_the_cell_reads_the_same(tmp_path):
    scene = write_scene(tmp_path, GRD, {"Cargo_x3_y4": 70})
    (chip,) = OpenSARShip(tmp_path).chips
    cell = ReaderCell(Walls((tmp_path,), 2**34), 60)
    records = cell.call(read_ship_records, scene / "Ship.xml")
    assert records == read_ship_records(scene / "Ship.xml")
    pixels = cell.call(read_opensarship_pixels, chip, "uint8")
    cell.close()
    assert np.array_equal(pixels, read_opensarship_pixels(chip, "uint8"))
