"""The picture of simulated chips."""

import numpy as np
from PIL import Image

from rsft.plugins.demo.prepare import DEMO_CLASSES
from tools.maintenance import simulated_chips
from tools.maintenance.simulated_chips import CAPTION, SIDE, draw_chips


def test_the_picture_has_two_rows_of_bright_ships_for_each_class(tmp_path, monkeypatch):
    monkeypatch.setattr(simulated_chips, "COLUMNS", 3)
    monkeypatch.setattr(simulated_chips, "CHIPS", 6)
    draw_chips(tmp_path / "chips.png")
    picture = np.asarray(Image.open(tmp_path / "chips.png"))
    height = CAPTION + 2 * SIDE
    assert picture.shape == (len(DEMO_CLASSES) * height, 3 * SIDE)
    for top in range(0, len(picture), height):
        centers = picture[top + CAPTION + SIDE // 4 : top + CAPTION + 3 * SIDE // 4]
        assert picture[top].min() == 255 and centers.max() > 200
