import numpy as np
import pytest

from rsft.metrics.intervals import (
    NORMAL_APPROXIMATION_MIN,
    percentile_interval,
    resample_confusion,
    resampled_means,
)


@pytest.mark.parametrize("count", [50, NORMAL_APPROXIMATION_MIN + 1])
def test_standard_error_matches_theory(count):
    rng = np.random.default_rng(0)
    values = rng.exponential(size=count)
    means = resampled_means(values, 4000, rng)
    assert means.mean() == pytest.approx(values.mean(), rel=0.02)
    assert means.std() == pytest.approx(values.std() / np.sqrt(count), rel=0.05)


def test_an_interval_has_95_percent_of_the_resamples():
    interval = percentile_interval(0.5, np.arange(1001) / 1000)
    numbers = (interval.value, interval.low, interval.high)
    assert numbers == pytest.approx((0.5, 0.025, 0.975))


def test_resampled_matrices_keep_the_chips_of_each_class():
    confusion = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 3]])
    hits, predicted = resample_confusion(confusion, 500, np.random.default_rng(0))
    assert hits.shape == predicted.shape == (500, 3)
    assert (predicted.sum(axis=1) == 14).all() and not hits[:, 1].any()
    assert (predicted[:, 1] == 10 - hits[:, 0]).all()
    assert (predicted[:, 2] == hits[:, 2]).all() and hits[:, 2].max() == 4
    assert hits.mean(axis=0) == pytest.approx([8, 0, 3], abs=0.2)
