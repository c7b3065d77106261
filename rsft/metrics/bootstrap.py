"""Percentile bootstrap, vectorised over the resamples."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95

MANY = 1000
"""Means of more chips are drawn from the normal distribution that they follow by then: a hundredth of the time."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The three numbers by name."""
        return asdict(self)


def interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    """The percentile interval of `value` from its `resampled` values (R,)."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))


def resample(
    confusion: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw test sets from a confusion matrix (C, C), rows = truth, stratified by class.

    To draw the n chips of one class with replacement is to draw its row from a multinomial, so no chip is touched.
    Every class keeps its number of chips: no resample loses a tail class.

    Returns:
        hits (R, C) by true class, and chips (R, C) by predicted class.
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
    """Means (R,) of `values` (n,), drawn n with replacement."""
    count = len(values)
    if count > MANY:
        return rng.normal(values.mean(), values.std() / np.sqrt(count), resamples)
    means: NDArray[np.float64] = values[rng.integers(count, size=(resamples, count))].mean(axis=1)
    return means
