"""Compute confidence intervals of proportions."""

from __future__ import annotations

from scipy.stats import binomtest


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Compute the 95 % interval of a proportion (Wilson 1927).

    Args:
        hits: number of successes.
        count: number of trials, at least 1.

    Returns:
        Lower and upper end in 0-1.
    """
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
