"""Draw simulated SAR chips of each class side by side: the picture of docs/simulated.md.

python -m tools.maintenance.simulated_chips docs/simulated-chips.png
"""

from pathlib import Path

import cv2
import numpy as np
import typer
from PIL import Image

from rsft.data.imagery.resize import center_crop
from rsft.plugins.demo import radar
from rsft.plugins.demo.archives import fusar_spacing
from rsft.plugins.demo.prepare import DEMO_CLASSES
from rsft.plugins.demo.ships import sample_ship
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from tools.errors import explained_errors

CHIPS = 20
COLUMNS = 10
SIDE = 96
CAPTION = 24


def draw_chips(out: Path, seed: int = 0) -> None:
    """Write a picture with 20 chips of each class: the part that the network of the quick start sees."""
    crop = load_recipe(find_recipe("quickstart")).data.crop
    rows = []
    assert isinstance(crop, int)
    for code, name in enumerate(DEMO_CLASSES):
        tiles = [
            _draw_chip(name, crop, np.random.default_rng((seed, code, number)))
            for number in range(CHIPS)
        ]
        caption = np.full((CAPTION, COLUMNS * SIDE), 255, np.uint8)
        cv2.putText(
            caption,
            name,
            (4, CAPTION - 7),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.6,
            (0,),
            1,
            cv2.LINE_AA,
        )
        rows += [
            caption,
            *(
                np.hstack(tiles[start : start + COLUMNS])
                for start in range(0, CHIPS, COLUMNS)
            ),
        ]
    Image.fromarray(np.vstack(rows)).save(out)


def _draw_chip(kind: str, crop: int, rng: np.random.Generator) -> np.ndarray:
    ship = sample_ship(kind, rng)
    sensor = radar.sample_sensor(rng, fusar_spacing())
    chip = radar.amplitude_to_uint8(radar.render_sar_chip(ship, sensor, rng))
    return cv2.resize(
        center_crop(chip, crop), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC
    )


if __name__ == "__main__":
    with explained_errors():
        typer.run(draw_chips)
