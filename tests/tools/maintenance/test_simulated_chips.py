"""The picture of simulated chips."""

import numpy as np
from PIL import Image

from rsft.data.prepare.demo import DEMO_CLASSES
from tools.maintenance.simulated_chips import CAPTION, CHIPS, COLUMNS, SIDE, draw_chips


def test_the_picture_has_two_rows_of_bright_ships_for_each_class(tmp_path):
    draw_chips(tmp_path / "chips.png")
    picture = np.asarray(Image.open(tmp_path / "chips.png"))
    height = CAPTION + CHIPS // COLUMNS * SIDE
    assert picture.shape == (len(DEMO_CLASSES) * height, COLUMNS * SIDE)
    for top in range(0, len(picture), height):
        centers = picture[top + CAPTION + SIDE // 4 : top + CAPTION + 3 * SIDE // 4]
        assert picture[top].min() == 255 and centers.max() > 200
