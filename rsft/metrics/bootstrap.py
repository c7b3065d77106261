"""Percentile bootstrap, vectorized over the resamples."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE_LEVEL = 0.95
"""Confidence level of all intervals."""

NORMAL_APPROXIMATION_MIN = 1000
"""Means of more values than this are drawn from a normal approximation, which takes a hundredth of the time."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return the interval as data for JSON.

        Returns:
            "value", "low" and "high".
        """
        return asdict(self)


def percentile_interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    """Return the percentile interval of a value.

    Args:
        value: the value of the original sample.
        resampled: (R,) the values of the resamples.

    Returns:
        The value with its interval.
    """
    low, high = np.quantile(resampled, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    return Interval(float(value), float(low), float(high))


def resample_confusion(
    confusion: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw bootstrap test sets from a confusion matrix, stratified by class.

    To draw the n chips of a class with replacement is to draw its row from a multinomial distribution. Every class
    keeps its number of chips, so no resample loses a tail class.

    Args:
        confusion: (C, C), rows are the true classes.
        resamples: R.
        rng: random generator.

    Returns:
        Correct chips by true class (R, C), and chips by predicted class (R, C).
    """
    hits = np.zeros((resamples, len(confusion)), np.int64)
    predicted = np.zeros_like(hits)
    for truth, row in enumerate(confusion):
        columns = np.flatnonzero(row)
        if not len(columns):
            continue
        draws = rng.multinomial(row.sum(), row[columns] / row.sum(), size=resamples)
        predicted[:, columns] += draws
        hits[:, truth] = draws[:, columns == truth].sum(axis=1)
    return hits, predicted


def resampled_means(values: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the means of bootstrap resamples.

    Args:
        values: (n,), drawn n times with replacement.
        resamples: R.
        rng: random generator.

    Returns:
        (R,).
    """
    count = len(values)
    if count > NORMAL_APPROXIMATION_MIN:
        return rng.normal(values.mean(), values.std() / np.sqrt(count), resamples)
    means: NDArray[np.float64] = values[rng.integers(count, size=(resamples, count))].mean(axis=1)
    return means
