"""Percentile bootstrap intervals, stratified by class."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsft.types import Floats, JsonObject

Counts = NDArray[np.int64]
"""Numbers of chips."""

CONFIDENCE_LEVEL = 0.95
"""Confidence level of all intervals."""

NORMAL_APPROXIMATION_MIN = 1000
"""Means of more values than this are drawn from a normal approximation, which takes a
hundredth of the time."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def percentile_interval(value: float, resampled: Floats) -> Interval:
    """Return a value with the percentile interval of its resamples (R,)."""
    limits = [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2]
    low, high = np.quantile(resampled, limits)
    return Interval(float(value), float(low), float(high))


def percentile_intervals(
    values: Mapping[str, Floats], resampled: Mapping[str, Floats]
) -> dict[str, Interval]:
    """Return named values with the percentile intervals of their resamples (R,)."""
    return {
        name: percentile_interval(float(value), resampled[name])
        for name, value in values.items()
    }


def resample_confusion(
    confusion: Counts, resamples: int, rng: np.random.Generator
) -> tuple[Counts, Counts]:
    """Draw bootstrap test sets from a confusion matrix, stratified by class.

    To draw the n chips of a class with replacement is to draw its row from a
    multinomial distribution. Every class keeps its number of chips, so no resample
    loses a tail class.

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


def resampled_means(values: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Return the means (R,) of R bootstrap resamples of values (n,).

    Each resample draws n times with replacement.
    """
    count = len(values)
    if count > NORMAL_APPROXIMATION_MIN:
        return rng.normal(values.mean(), values.std() / np.sqrt(count), resamples)
    return np.asarray(values[rng.integers(count, size=(resamples, count))].mean(axis=1))


def add_group_means(means: JsonObject, by_group: JsonObject) -> JsonObject:
    """Add the means of groups, and their mean "avg", to the means over all classes."""
    if by_group:
        means["avg"] = np.mean(list(by_group.values()), axis=0)
    return means | by_group
