"""Two-sample tests. They need NumPy alone, because importing SciPy takes longer than classifying a few chips."""

from __future__ import annotations

import math
from itertools import count

import numpy as np
from numpy.typing import NDArray

_MAX_EXACT = 10_000_000  # product of the sizes up to which the exact distribution is computed, in about 0.1 s


def kolmogorov_smirnov(values: NDArray[np.floating], others: NDArray[np.floating]) -> tuple[float, float]:
    """Compare two samples by the Kolmogorov-Smirnov test.

    Args:
        values: (N,).
        others: (M,).

    Returns:
        The largest difference of the distribution functions, and the probability of at least such a difference if both
        samples have the same distribution. It is exact if N M is at most ten million. For larger samples it is the
        limit, with the correction of Stephens 1970 for finite samples.
    """
    points = np.concatenate([values, others])
    first, second = (np.searchsorted(np.sort(sample), points, "right") for sample in (values, others))
    n, m = len(values), len(others)
    distance = int(np.abs(first.astype(np.int64) * m - second.astype(np.int64) * n).max())  # times n m, so it is whole
    statistic = distance / (n * m)
    if n * m <= _MAX_EXACT:
        return statistic, _exact_probability(distance, *sorted((n, m)))
    root = math.sqrt(n * m / (n + m))
    return statistic, _limit_probability((root + 0.12 + 0.11 / root) * statistic)


def _exact_probability(distance: int, n: int, m: int) -> float:
    """Return the probability that samples of n and m values have at least `distance` / (n m).

    The order of both samples is a path from (0, 0) to (n, m), and all paths are equally probable. The share of those
    with |i m - j n| < distance everywhere is summed row by row (Kim and Jennrich 1973).
    """
    columns = np.arange(m + 1, dtype=np.int64) * n
    share = np.ones(m + 1)
    for i in range(n + 1):
        low, high = np.searchsorted(columns, [i * m - distance + 1, i * m + distance])
        inside = share[low:high] * (i / (i + m)) if i else share[low:high].copy()
        share[:] = 0
        share[low:high] = np.cumsum(inside) if i else inside
    return min(1.0, max(0.0, 1.0 - float(share[m])))


def _limit_probability(value: float) -> float:
    """Return the probability that Kolmogorov's distribution exceeds a value."""
    if value < 0.2:
        return 1.0
    total = 0.0
    for k in count(1):
        term = math.exp(-2 * (k * value) ** 2)
        total += term if k % 2 else -term
        if term < 1e-16:
            return min(1.0, max(0.0, 2 * total))
    raise AssertionError


def chi_squared(counts: NDArray[np.integer]) -> float:
    """Compare the shares of K classes in two samples by the chi-squared test, with Yates' correction for two classes.

    Args:
        counts: (2, K) counts, with K of at least 2 and no column of zeros.

    Returns:
        The probability of at least such a difference if both samples have the same shares.
    """
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    difference = np.abs(counts - expected)
    if counts.shape[1] == 2:
        difference = np.maximum(difference - 0.5, 0)
    return chi_squared_tail(float((difference**2 / expected).sum()), counts.shape[1] - 1)


def chi_squared_tail(value: float, degrees: int) -> float:
    """Return the probability that a chi-squared variable exceeds a value.

    Args:
        value: at least 0.
        degrees: number of degrees of freedom.

    Returns:
        The probability, by the finite sum for whole degrees of freedom (Abramowitz and Stegun 26.4.4 and 26.4.5).
    """
    half = value / 2
    if half == 0:
        return 1.0
    start = 0.0 if degrees % 2 == 0 else 0.5
    terms = (math.exp((start + i) * math.log(half) - half - math.lgamma(start + i + 1)) for i in range(degrees // 2))
    return min(1.0, (math.erfc(math.sqrt(half)) if degrees % 2 else 0.0) + math.fsum(terms))
