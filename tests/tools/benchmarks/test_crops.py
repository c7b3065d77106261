"""The benchmark of the crops: every way makes the same files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from rsft.data.datasets.dota import DOTAObjects
from tools.benchmarks.crops import by_object, rsft, write_tree


def test_both_ways_make_the_same_crops(tmp_path: Path) -> None:
    write_tree(tmp_path, side=256, objects=5)
    objects = DOTAObjects(tmp_path, "all").objects
    assert len(objects) == 5
    for way in (by_object, rsft):
        (tmp_path / way.__name__).mkdir()
        way(objects, tmp_path / way.__name__)
    for item in objects:
        first = cv2.imread(str(tmp_path / f"by_object/{item.name}.png"))
        second = cv2.imread(str(tmp_path / f"rsft/chips/train/plane/{item.name}.png"))
        np.testing.assert_array_equal(first, second)
