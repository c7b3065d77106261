import numpy as np
import pytest

from rsft.metrics.intervals import NORMAL_APPROXIMATION_MIN, resampled_means


@pytest.mark.parametrize("count", [50, NORMAL_APPROXIMATION_MIN + 1])
def test_standard_error_matches_theory(count):
    rng = np.random.default_rng(0)
    values = rng.exponential(size=count)
    means = resampled_means(values, 4000, rng)
    assert means.mean() == pytest.approx(values.mean(), rel=0.02)
    assert means.std() == pytest.approx(values.std() / np.sqrt(count), rel=0.05)
