import numpy as np
import pytest
from scipy import stats

from rsft.models.uncertainty.one_class import compare_with_one_class


@pytest.mark.parametrize(
    ("predicted", "gained", "lost"),
    [([0] * 60 + [1] * 40, 40, 0), ([0] * 50 + [1] * 25 + [0] * 25, 15, 10)],
)
def test_predictions_are_compared_with_the_largest_class_by_a_sign_test(
    predicted, gained, lost
):
    """60 of 100 chips are of class 0."""
    labels = np.repeat([0, 1], [60, 40])
    one = compare_with_one_class(np.array(predicted), labels)
    assert (one.index, one.share) == (0, 0.6)
    assert one.accuracy == pytest.approx(0.6 + (gained - lost) / 100)
    exact = stats.binomtest(gained, gained + lost, alternative="greater").pvalue
    assert one.p == pytest.approx(exact, abs=0.02)
    assert one.is_beaten == (exact < 0.05)
