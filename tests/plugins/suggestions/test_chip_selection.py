"""Chips are selected by uncertainty, rarity, distance and difference."""

import numpy as np
import pytest

from rsft.plugins.suggestions.chip_selection import (
    describe_reason,
    select_chips,
    uncertainty,
)


def test_uncertainty_is_the_mean_of_margin_and_set_share():
    probabilities = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.6, 0.3, 0.1]])
    assert uncertainty(probabilities).tolist() == pytest.approx([1, 0, 0.7])
    sizes = np.array([2, 1, 0])  # the last set was withheld
    assert uncertainty(probabilities, sizes).tolist() == pytest.approx(
        [(1 + 2 / 3) / 2, 1 / 6, (0.7 + 1) / 2]
    )
    assert uncertainty(np.ones((2, 1))).tolist() == [1, 1]


def test_a_rare_class_comes_first_but_does_not_fill_the_list():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]])
    selected = select_chips(probabilities, np.ones(4), np.array([50, 1]), 4)
    assert selected == [3, 1, 2, 0]


def test_equal_chips_are_selected_last():
    probabilities = np.repeat([[0.5, 0.5], [0.7, 0.3]], [20, 1], axis=0)
    scores = np.array([1.0] * 20 + [0.1])
    assert select_chips(probabilities, scores, np.array([9, 9]), 3) == [0, 20, 1]
    assert len(select_chips(probabilities, scores, np.array([9, 9]), 99)) == 21
    assert select_chips(np.empty((0, 2)), np.empty(0), np.array([9, 9]), 3) == []


def test_a_chip_without_uncertainty_is_still_selected():
    assert select_chips(
        np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0.0, 1.0]), np.array([1, 1]), 5
    ) == [1, 0]


def test_reasons():
    probabilities = np.array([0.5, 0.38, 0.12])
    classes = ("D7", "BMP2", "T72")
    reason = describe_reason(probabilities, classes, 1.82)
    expected = "D7 50 %, BMP2 38 %; unlike the training chips (1.8 times the limit)"
    assert reason == expected
    assert describe_reason(np.array([1.0]), ("ship",), np.nan) == "ship 100 %"
