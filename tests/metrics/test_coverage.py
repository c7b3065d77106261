import numpy as np
import pytest

from rsft.metrics.coverage import coverage_by_group

SETS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1]], bool)


def test_coverage_and_size_by_group():
    coverage = coverage_by_group(
        SETS, np.array([0, 0, 0, 2]), {"head": [0], "medium": [1], "tail": [2]}
    )
    assert (coverage["all"].value, coverage["all"].size, coverage["all"].single) == (
        0.75,
        7 / 4,
        0.5,
    )
    assert (
        coverage["head"].value == pytest.approx(2 / 3) and coverage["head"].chips == 3
    )
    assert coverage["medium"] is None
    assert (coverage["tail"].value, coverage["tail"].size) == (1.0, 3.0)
    # Clopper and Pearson: (alpha / 2)^(1 / n)
    assert coverage["tail"].low == pytest.approx(0.025)


def test_share_of_sets_with_one_class():
    sets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], bool)
    assert coverage_by_group(sets, np.array([0, 1, 2, 0]), {})["all"].single == 0.75
