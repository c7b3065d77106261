"""Measure how often sets of classes contain the true class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rsft.metrics.intervals import CONFIDENCE_LEVEL
from rsft.types import GROUPS, Labels, Mask


@dataclass(frozen=True)
class SetCoverage:
    """Coverage and size of the sets of some chips.

    Attributes:
        value: share of chips with a set that contains the true class; from `low` to
            `high` is its exact 95 % interval (Clopper and Pearson 1934).
        size: mean number of classes in a set.
        single: share of sets with exactly one class.
    """

    value: float
    low: float
    high: float
    size: float
    single: float
    chips: int


def coverage_by_group(
    sets: Mask, labels: Labels, groups: Mapping[str, Sequence[int]]
) -> dict[str, SetCoverage | None]:
    """Return the coverage of all chips and of the chips of each group.

    Args:
        sets: (N, C), the classes that each chip may have.
        labels: (N,) class indices.
        groups: class indices of head, medium and tail; a group may be empty or missing.

    Returns:
        "all", "head", "medium" and "tail" -> coverage; None for a group without chips.

    Example:
        >>> sets = np.array([[True, False], [True, True]])
        >>> groups = {"head": [0], "tail": [1]}
        >>> coverage = coverage_by_group(sets, np.array([0, 1]), groups)
        >>> coverage["tail"].size, coverage["medium"]
        (2.0, None)
    """
    masks = {"all": np.ones(len(labels), bool)}
    for name in GROUPS:
        masks[name] = np.isin(labels, groups.get(name, ()))
    return {
        name: measure_coverage(sets[mask], labels[mask]) if mask.any() else None
        for name, mask in masks.items()
    }


def measure_coverage(sets: Mask, labels: Labels) -> SetCoverage:
    """Return the coverage of chips by sets of classes.

    Args:
        sets: (N, C), the classes that each chip may have, N > 0.
        labels: (N,) class indices.

    Returns:
        Coverage with its interval, and the size of the sets.

    Example:
        >>> sets = np.array([[True, False]] * 10)
        >>> coverage = measure_coverage(sets, np.zeros(10, int))
        >>> coverage.value, round(coverage.low, 2), coverage.size
        (1.0, 0.69, 1.0)
    """
    from scipy.stats import binomtest

    covered = sets[np.arange(len(labels)), labels]
    sizes = sets.sum(axis=1)
    test = binomtest(int(covered.sum()), len(covered))
    interval = test.proportion_ci(CONFIDENCE_LEVEL)
    return SetCoverage(
        value=float(covered.mean()),
        low=float(interval.low),
        high=float(interval.high),
        size=float(sizes.mean()),
        single=float((sizes == 1).mean()),
        chips=len(covered),
    )
