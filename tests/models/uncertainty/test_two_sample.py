"""The two-sample tests give the probabilities of SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rsft.models.uncertainty import shift
from rsft.models.uncertainty.shift import chi_squared, chi_squared_tail, kolmogorov_smirnov


@pytest.mark.parametrize(("n", "m"), [(10, 10), (10, 37), (60, 60), (25, 400), (13, 1)])
@pytest.mark.parametrize("offset", [0.0, 0.3, 1.0])
def test_small_samples_have_the_exact_probability(n: int, m: int, offset: float) -> None:
    rng = np.random.default_rng(n + m)
    values, others = rng.normal(size=n), rng.normal(offset, size=m)
    expected = stats.ks_2samp(values, others, method="exact")
    assert kolmogorov_smirnov(values, others) == pytest.approx(
        (expected.statistic, expected.pvalue), rel=1e-6, abs=1e-9
    )


def test_ties_and_equal_samples() -> None:
    values, others = np.repeat([1.0, 2.0, 3.0], [5, 3, 4]), np.repeat([1.0, 2.0, 4.0], [2, 6, 3])
    expected = stats.ks_2samp(values, others, method="exact")
    assert kolmogorov_smirnov(values, others) == pytest.approx((expected.statistic, expected.pvalue))
    assert kolmogorov_smirnov(values, values) == (0.0, 1.0)


@pytest.mark.parametrize("offset", [0.0, 0.03, 0.1])
def test_large_samples_are_near_the_exact_probability(monkeypatch: pytest.MonkeyPatch, offset: float) -> None:
    rng = np.random.default_rng(3)
    values, others = rng.normal(size=900), rng.normal(offset, size=1000)
    exact = kolmogorov_smirnov(values, others)
    monkeypatch.setattr(shift, "_MAX_EXACT", 0)
    assert kolmogorov_smirnov(values, others) == pytest.approx(exact, rel=0.1, abs=1e-4)
    assert kolmogorov_smirnov(np.zeros(50), np.ones(60))[1] < 1e-12


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (2, 6)])
def test_shares_are_compared_as_by_scipy(shape: tuple[int, int]) -> None:
    for seed in range(5):
        counts = np.random.default_rng(seed).integers(1, 40, shape)
        assert chi_squared(counts) == pytest.approx(stats.chi2_contingency(counts).pvalue, rel=1e-9)


@pytest.mark.parametrize("degrees", [1, 2, 3, 8, 101])
@pytest.mark.parametrize("value", [0.0, 1e-6, 1.0, 30.0, 2000.0])
def test_the_tail_of_the_chi_squared_distribution(degrees: int, value: float) -> None:
    assert chi_squared_tail(value, degrees) == pytest.approx(stats.chi2.sf(value, degrees), rel=1e-9, abs=1e-300)
