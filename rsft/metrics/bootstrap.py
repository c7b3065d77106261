"""Percentile bootstrap, and the paired comparison of two classifiers on the same chips with McNemar's test."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from rsft.types import GROUPS

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
        """Return the interval as data for JSON."""
        return asdict(self)


def percentile_interval(value: float, resampled: NDArray[np.float64]) -> Interval:
    """Return a value with its percentile interval, given the values of the resamples (R,)."""
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
    """Return the means (R,) of R bootstrap resamples of values (n,), each drawn n times with replacement."""
    count = len(values)
    if count > NORMAL_APPROXIMATION_MIN:
        return rng.normal(values.mean(), values.std() / np.sqrt(count), resamples)
    means: NDArray[np.float64] = values[rng.integers(count, size=(resamples, count))].mean(axis=1)
    return means


Hits = NDArray[np.bool_]


@dataclass(frozen=True)
class McNemarTest:
    """McNemar's exact test (1947) on the chips that exactly one of two classifiers gets right.

    Attributes:
        first: number of chips that only the first classifier gets right.
        second: number of chips that only the second classifier gets right.
        p: two-sided p-value; 1 without such chips.
    """

    first: int
    second: int
    p: float


@dataclass(frozen=True)
class PairedDifferences:
    """Accuracy of the first classifier minus that of the second, in 0-1.

    Attributes:
        differences: name -> difference: micro and macro accuracy, each group with chips, and `avg`, the groups' mean.
        mcnemar: name -> test, for all chips ("all") and for the chips of each group with chips.
    """

    differences: dict[str, Interval]
    mcnemar: dict[str, McNemarTest]


def compare_predictions(
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    labels: NDArray[np.integer],
    groups: Mapping[str, Sequence[int]],
    seed: int = 0,
    resamples: int = 1000,
) -> PairedDifferences:
    """Compare the predictions of two classifiers by a paired bootstrap, stratified by class.

    Each resample draws the same chips for both, so chips that are hard for both do not widen the interval. A class for
    which the classifiers agree on all chips does not vary between resamples (see `summarize_accuracy`).

    Args:
        first: (N,) predicted class indices.
        second: (N,) predicted class indices.
        labels: (N,) class indices.
        groups: class indices of head, medium and tail; a group may be empty or missing.
        seed: seed of the bootstrap.
        resamples: number of bootstrap resamples.

    Returns:
        Differences with intervals, and tests.

    Raises:
        ValueError: no chips, or arrays of different lengths.
    """
    if not len(labels) or not len(first) == len(second) == len(labels):
        raise ValueError("first, second and labels must belong to the same chips, at least one")
    present = np.unique(labels)
    first_hits, second_hits = first == labels, second == labels
    gains = first_hits.astype(int) - second_hits
    class_gains = [gains[labels == index] for index in present]
    counts = np.array([len(values) for values in class_gains])
    cells = np.array([[(values == gain).sum() for gain in (1, 0, -1)] for values in class_gains])
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.multinomial(row.sum(), row / row.sum(), resamples) for row in cells], axis=1)

    members = {name: np.flatnonzero(np.isin(present, groups.get(name, ()))) for name in GROUPS}
    members = {name: positions for name, positions in members.items() if len(positions)}
    differences = _means((cells[:, 0] - cells[:, 2]) / counts, counts, members)
    resampled = _means((drawn[..., 0] - drawn[..., 2]) / counts, counts, members)
    masks = {"all": np.ones(len(labels), bool)}
    masks |= {name: np.isin(labels, present[positions]) for name, positions in members.items()}
    return PairedDifferences(
        differences={name: percentile_interval(float(value), resampled[name]) for name, value in differences.items()},
        mcnemar={name: exact_mcnemar(first_hits[mask], second_hits[mask]) for name, mask in masks.items()},
    )


def _means(
    gains: NDArray[np.float64], counts: NDArray[np.int64], members: Mapping[str, NDArray[np.int64]]
) -> dict[str, NDArray[np.float64]]:
    """Return means over classes, () or (R,), of gains (K,) or (R, K)."""
    by_group = {name: gains[..., positions].mean(axis=-1) for name, positions in members.items()}
    means = {"micro": gains @ counts / counts.sum(), "macro": gains.mean(axis=-1)}
    if by_group:
        means["avg"] = np.mean(list(by_group.values()), axis=0)
    return means | by_group


def exact_mcnemar(first: Hits, second: Hits) -> McNemarTest:
    """Test whether two classifiers have the same accuracy, on the chips that exactly one of them gets right.

    Args:
        first: whether the first classifier gets each chip right (N,).
        second: the same of the second classifier (N,).

    Returns:
        The counts and the two-sided p-value.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    count = only_first + only_second
    return McNemarTest(only_first, only_second, float(binomtest(only_first, count).pvalue) if count else 1.0)


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests, so that any false alarm is as rare as in a single test (Holm 1979).

    Args:
        p_values: p-values of all tests.

    Returns:
        Adjusted p-values, in the same order.

    Example:
        >>> holm_adjust([0.01, 0.5, 0.03])
        [0.03, 0.5, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]
