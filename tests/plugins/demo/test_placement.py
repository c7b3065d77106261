"""Positions of simulated ships."""

import numpy as np
import pytest

from rsft.plugins.demo.placement import place_ships, sample_coast
from rsft.plugins.demo.radar import Shore


def test_ships_of_a_scene_neither_overlap_nor_lie_on_land():
    shore = Shore(0.4, 100.0)
    poses = list(
        place_ships(
            ["tanker", "fishing"] * 5, shore, 1000, np.random.default_rng(0)
        ).values()
    )
    assert len(poses) >= 6
    moored = poses[2]  # a seed gives the same ships in all versions
    assert [moored.x, moored.y] == pytest.approx([118.05, -53.72], abs=0.01)
    assert moored.heading == pytest.approx(0.4 + np.pi / 2)
    assert [poses[0].x, poses[0].y, poses[0].heading] == pytest.approx(
        [-324.34, 363.18, 3.402], abs=0.01
    )
    for index, pose in enumerate(poses):
        assert shore.distance_inland(*pose.bounding_box().T).max() <= 0
        for other in poses[:index]:
            gaps = np.linalg.norm(
                pose.bounding_box()[:, None] - other.bounding_box()[None], axis=-1
            )
            assert gaps.min() > 1


def test_a_coast_is_mostly_water():
    x, y = np.meshgrid(np.linspace(-500, 500, 60), np.linspace(-500, 500, 60))
    for seed in range(5):
        coast = sample_coast(np.random.default_rng(seed), 1000)
        assert not coast.has_quay
        assert 0.05 < (coast.distance_inland(x, y) > 0).mean() < 0.45
