"""How many corrections stick: the chips of the pool that are corrected, and the
table."""

import cv2
import numpy as np
import pytest

from rsft.data.chips.store import ChipStore
from rsft.data.prepare.image_folder import prepare_folder
from tools.reproduction.corrections import correct, format_row


@pytest.mark.slow
def test_wrong_chips_are_corrected(run, root, tmp_path):
    """Half of the pool are steep bars that are called slanted."""
    rng = np.random.default_rng(3)
    for number in range(8):
        image = rng.gamma(2, 15, (32, 32))
        ends = ((16, 4), (16, 28)) if number % 2 else ((4, 16), (28, 16))
        cv2.line(image, *ends, 255, 3)
        folder = tmp_path / "source" / "train" / ("slanted" if number % 2 else "flat")
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(
            str(folder / f"new{number}.png"), np.clip(image, 0, 255).astype(np.uint8)
        )
    pool = prepare_folder(tmp_path / "source", tmp_path / "pool").root
    stores = ChipStore.open(root), ChipStore.open(pool)
    result = correct(
        run / "bundle", *stores, 0, 3, ["train.lr=0.02"], tmp_path / "work"
    )
    right, corrected = result["corrected"]
    assert corrected == 3 and right >= 2
    assert result["others"][1] + result["broken"][1] + corrected == 8
    assert (
        len(ChipStore.open(tmp_path / "work" / "store").table)
        == len(stores[0].table) + 3
    )
    assert len(ChipStore.open(root).table) == len(stores[0].table)


def test_the_row_of_a_setting():
    row = {
        "corrected": [10, 12],
        "others": [30, 120],
        "broken": [5, 50],
        "macro": [0.5, 0.53],
        "fall": 0.2,
    }
    other = {
        "corrected": [12, 12],
        "others": [0, 0],
        "broken": [0, 50],
        "macro": [0.6, 0.59],
        "fall": 0.05,
    }
    rows = [
        row | {"unsaid": 1, "seconds": 10.0},
        other | {"unsaid": 0, "seconds": 14.0},
    ]
    assert (
        format_row("default", rows)
        == "| default | 11.0 of 12 | 10 | 12 | 5.0 | 55.0 | +1.0 | 20 | 1 | 12 |"
    )
