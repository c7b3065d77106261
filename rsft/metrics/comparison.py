"""Compare two classifiers on the same chips: paired bootstrap and McNemar's test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsft.metrics.intervals import (
    Counts,
    Interval,
    add_group_means,
    percentile_intervals,
)
from rsft.types import GROUPS, Floats, Indices, Labels

Hits = NDArray[np.bool_]


@dataclass(frozen=True)
class McNemarTest:
    """McNemar's exact test (1947) with its two-sided p-value.

    The counts are of chips that only one of two classifiers gets right.
    """

    first: int
    second: int
    p: float


@dataclass(frozen=True)
class PairedDifferences:
    """Accuracy of the first classifier minus that of the second, in 0-1.

    Attributes:
        differences: name -> difference: micro and macro accuracy, each group with
            chips, and `avg`, the groups' mean.
        mcnemar: name -> test, for all chips ("all") and for the chips of each group
            with chips.
    """

    differences: dict[str, Interval]
    mcnemar: dict[str, McNemarTest]


def compare_predictions(
    first: Labels,
    second: Labels,
    labels: Labels,
    groups: Mapping[str, Sequence[int]],
    seed: int = 0,
    resamples: int = 1000,
) -> PairedDifferences:
    """Compare two classifiers by a paired bootstrap, stratified by class.

    Each resample draws the same chips for both, so chips that are hard for both do not
    widen the interval. A class for which the classifiers agree on all chips does not
    vary between resamples (see `summarize_accuracy`).

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

    Example:
        >>> labels = np.array([0, 0, 1, 1])
        >>> groups = {"head": [0], "tail": [1]}
        >>> first = np.array([0, 0, 1, 1])
        >>> second = np.array([0, 0, 0, 0])
        >>> compared = compare_predictions(first, second, labels, groups)
        >>> compared.differences["tail"].value, compared.mcnemar["all"].p
        (1.0, 0.5)
    """
    if not len(labels) or not len(first) == len(second) == len(labels):
        raise ValueError(
            "first, second and labels must belong to the same chips, at least one"
        )
    first_hits = first == labels
    second_hits = second == labels
    gains = first_hits.astype(int) - second_hits
    present, class_of_chip = np.unique(labels, return_inverse=True)
    cells = np.zeros((len(present), 3), int)  # chips with gain 1, 0, -1
    np.add.at(cells, (class_of_chip, 1 - gains), 1)
    counts = cells.sum(axis=1)
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [
            rng.multinomial(count, row / count, resamples)
            for row, count in zip(cells, counts, strict=True)
        ],
        axis=1,
    )
    members = {}
    masks = {"all": np.ones(len(labels), bool)}
    for name in GROUPS:
        positions = np.flatnonzero(np.isin(present, groups.get(name, ())))
        if len(positions):
            members[name] = positions
            masks[name] = np.isin(class_of_chip, positions)
    return PairedDifferences(
        percentile_intervals(
            _mean_gains(cells, counts, members), _mean_gains(drawn, counts, members)
        ),
        {
            name: exact_mcnemar(first_hits[mask], second_hits[mask])
            for name, mask in masks.items()
        },
    )


def _mean_gains(
    cells: Counts, counts: Counts, members: Mapping[str, Indices]
) -> dict[str, Floats]:
    """Return mean gains over K classes, () or (R,).

    Cells are (K, 3) or (R, K, 3): numbers of chips with gain 1, 0 and -1.
    """
    gains = (cells[..., 0] - cells[..., 2]) / counts
    means = {"micro": gains @ counts / counts.sum(), "macro": gains.mean(axis=-1)}
    by_group = {name: gains[..., x].mean(axis=-1) for name, x in members.items()}
    return add_group_means(means, by_group)


def exact_mcnemar(first: Hits, second: Hits) -> McNemarTest:
    """Test whether two classifiers have the same accuracy.

    It takes the chips that exactly one gets right.

    Args:
        first: whether the first classifier is right, for each chip (N,).
        second: the same of the second one.

    Returns:
        The counts and the two-sided p-value.

    Example:
        >>> first = np.array([True] * 6)
        >>> exact_mcnemar(first, ~first)
        McNemarTest(first=6, second=0, p=0.03125)
    """
    from scipy.stats import binomtest

    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    count = only_first + only_second
    p = float(binomtest(only_first, count).pvalue) if count else 1.0
    return McNemarTest(only_first, only_second, p)


def holm_adjust(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests (Holm 1979).

    Any false alarm becomes as rare as in a single test.

    Args:
        p_values: one p-value for each test.

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
