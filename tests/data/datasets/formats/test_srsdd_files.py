"""Ships in the label files of SRSDD."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rsft.data.datasets.formats.srsdd_files import (
    MAX_CHIP_SIZE,
    SRSDDShip,
    SRSDDShips,
    is_srsdd_label_file,
)
from tests.data.datasets.srsdd.data import write_srsdd

SHIP = SRSDDShip(
    1, 3, "Fishing", (4, 2, 10, 2, 10, 6, 4, 6), 0, Path("0007.png"), Path("7.txt")
)


def test_the_chip_is_a_square_around_the_box():
    assert SHIP.name == "L7_3" and SHIP.window == (-25, -28, 64)
    assert SHIP.box_in_chip[:2] == [29, 30]
    image = np.arange(70 * 80).reshape(70, 80)
    chip = SHIP.crop(image)
    assert chip.shape == (64, 64)
    np.testing.assert_array_equal(chip[28:, 25:], image[:36, :39])
    np.testing.assert_array_equal(chip[27, 25:], image[1, :39])  # mirrored


@pytest.mark.parametrize(
    ("shift", "scale", "message"),
    [(-20, 1, "outside"), (200, 1, "outside"), (0, MAX_CHIP_SIZE, "limit")],
)
def test_a_box_outside_or_too_large_is_refused(shift, scale, message):
    box = tuple(value * scale + shift for value in SHIP.box)
    with pytest.raises(ValueError, match=message):
        replace(SHIP, box=box).crop(np.zeros((70, 80)))


def test_images_have_the_label_file_of_their_stem(tmp_path):
    write_srsdd(tmp_path, {1: ["Fishing"], 2: ["ore-oil", "Dredger"]})
    (tmp_path / "images/9.png").write_bytes(b"")
    source = SRSDDShips(tmp_path)
    assert [ship.name for ship in source.ships] == ["L1_1", "L2_1", "L2_2"]
    assert source.skipped["image without a label file"] == 1
    assert is_srsdd_label_file(tmp_path / "labels/1.txt")
