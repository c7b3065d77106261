"""Flipped labels and the numbers of the table."""

import numpy as np
import pytest

from tools.reproduction.label_noise import PAIRS, flip_labels, format_table, score


def test_labels_are_flipped_within_pairs():
    labels = [name for pair in PAIRS for name in pair for _ in range(10)]
    other = dict(PAIRS) | {second: first for first, second in PAIRS}
    flipped = flip_labels(labels, other, 0.1, 0)
    changed = {
        (old, new) for old, new in zip(labels, flipped, strict=True) if old != new
    }
    assert (flipped != np.array(labels, object)).sum() == 10
    assert changed <= set(other.items())
    assert (flip_labels(labels, other, 0.1, 0) == flipped).all() and (
        flip_labels(labels, other, 0.1, 1) != flipped
    ).any()


def test_score():
    probabilities = np.array(
        [[0.1, 0.9, 0], [0.4, 0, 0.6], [0.3, 0.7, 0], [0.8, 0.2, 0], [0, 0.6, 0.4]]
    )
    labels = np.array([0, 0, 0, 0, 1])
    truth = np.array([1, 1, 0, 0, 2])  # the first two and the last one are wrong
    result = score(probabilities, labels, truth)
    assert result["precision"] == pytest.approx(2 / 3) and result[
        "recall"
    ] == pytest.approx(2 / 3)
    assert (
        result["length"] == 1
        and result["proposal"] == 0.5
        and result["auc"] == pytest.approx(4 / 6)
    )


def test_table():
    rows = [
        {
            "share": 0.05,
            "method": "m",
            "precision": x,
            "recall": 1,
            "length": 2,
            "proposal": 1,
            "auc": 0.9,
        }
        for x in (0.8, 0.9)
    ]
    assert (
        "| 5 % | m | 2 | 85.0 % ± 7.1 | 0.900 | 100.0 % | 2.00 | 100.0 % |"
        in format_table(rows)
    )
    assert "| 5 % | m | 1 | 80.0 % | " in format_table(rows[:1])
