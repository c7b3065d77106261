"""The first chips of a folder without labels: one typical chip for each cluster."""

import cv2
import numpy as np
import pytest

from rsft.errors import RequestError
from rsft.plugins.suggestions.first_chips import (
    reduce_features,
    suggest_first_chips,
    typical_chips,
)
from rsft.scenes.inputs import find_chips
from rsft.scenes.options import Declaration
from tests.helpers.messages import mentions


def test_typical_chips_of_three_clusters():
    rng = np.random.default_rng(0)
    centers = np.repeat([[0, 0], [10, 0], [0, 10]], [30, 20, 10], axis=0)
    vectors = centers + rng.normal(size=centers.shape)
    vectors[[0, 30, 50]] = [[0, 0], [10, 0], [0, 10]]
    chips = typical_chips(vectors, 3)
    assert list(chips.values()) == [30, 20, 10]
    for chip, center in zip(chips, ([0, 0], [10, 0], [0, 10]), strict=True):
        assert np.abs(vectors[chip] - center).max() < 1
    assert len(typical_chips(vectors[:2], 10)) == 2


def test_reduced_features_keep_distances():
    x = np.random.default_rng(0).normal(size=(20, 5))
    y = reduce_features(x, 10)
    assert y.shape == (20, 5)
    assert np.allclose(np.linalg.norm(y[0] - y[1]), np.linalg.norm(x[0] - x[1]))


@pytest.fixture
def folder(tmp_path):
    """Write dark and bright chips, one with other bands, and a damaged one."""
    rng = np.random.default_rng(0)
    for number in range(12):
        image = rng.integers(0, 60, (24, 24), np.uint8) + np.uint8(90 * (number % 2))
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), image)
    cv2.imwrite(str(tmp_path / "rgb.png"), rng.integers(0, 9, (24, 24, 3), np.uint8))
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path


def test_chips_of_a_folder(folder):
    chips = suggest_first_chips(find_chips([folder])[0], 2, 100)
    assert len(chips.table) == len(chips.vectors) == len(chips.pixels) == 12
    assert chips.suggestions.table["path"].tolist() == chips.table["path"][:2].tolist()
    assert {int(path[-5]) % 2 for path in chips.table["path"][:2]} == {0, 1}
    assert any("left out: 2" in note for note in chips.suggestions.notes)
    fewer = suggest_first_chips(find_chips([folder])[0], 2, 8)
    assert len(fewer.table) <= 8 and "8 of 14 chips" in fewer.suggestions.notes[0]


def test_no_chip_can_be_used(folder):
    files = {str(folder / "damaged.png"): Declaration()}
    with pytest.raises(RequestError, match=mentions("no chip")):
        suggest_first_chips(files, 2, 100)
