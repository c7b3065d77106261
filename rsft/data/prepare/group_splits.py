"""Random splits that never divide a group: a scene, an image, a vessel."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rsft.types import Indices

Group = TypeVar("Group", bound=Hashable)
Shares = NDArray[np.float64]


def split_groups(
    labels: Sequence[str], groups: Sequence[Group], shares: Mapping[str, float], seed: int
) -> dict[Group, str]:
    """Assign whole groups to splits, so that each class comes near its requested share in every split.

    The cost of an assignment is the sum over classes and splits of the squared difference between actual and requested
    share. First, every class that occurs in enough groups gets one group in each split, rare classes first, by the
    assignment of least cost. Then the remaining groups are assigned one by one, the largest first, each to the split of
    least cost. Ties are broken at random. No split stays empty if there are enough groups.

    Args:
        labels: class of each sample (N,).
        groups: group of each sample (N,).
        shares: requested share of each split; a split with share 0 gets no group.
        seed: seed of the random order.

    Returns:
        The split of each group.
    """
    splits = [split for split, share in shares.items() if share > 0]
    order, contents = _sort_groups(labels, groups, seed)
    errors = np.tile([[-float(shares[split])] for split in splits], contents.shape[1])  # (S, C): actual - requested
    assigned = np.full(len(order), -1)
    for members in _rare_classes_first(contents > 0, len(splits)):
        open_splits = np.setdiff1d(np.arange(len(splits)), assigned[members])
        candidates = members[assigned[members] < 0]
        rows, columns = linear_sum_assignment(_added_cost(contents[candidates], errors[open_splits]))
        assigned[candidates[rows]] = open_splits[columns]
        errors[open_splits[columns]] += contents[candidates[rows]]
    for group in np.flatnonzero(assigned < 0):
        assigned[group] = split = _added_cost(contents[[group]], errors).argmin()
        errors[split] += contents[group]
    return {group: splits[split] for group, split in zip(order, assigned, strict=True)}


def _sort_groups(labels: Sequence[str], groups: Sequence[Group], seed: int) -> tuple[list[Group], Shares]:
    """Sort the groups by descending size, equal sizes at random.

    Returns:
        The groups, and the share of each class that each group contains (G, C).
    """
    row = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    column = {label: index for index, label in enumerate(sorted(set(labels)))}
    counts = np.zeros((len(row), len(column)))
    np.add.at(counts, ([row[group] for group in groups], [column[label] for label in labels]), 1)
    order = np.random.default_rng(seed).permutation(len(row))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    names = list(row)
    return [names[index] for index in order], counts[order] / counts.sum(axis=0)


def _rare_classes_first(present: NDArray[np.bool_], splits: int) -> Iterator[Indices]:
    """Yield the indices of the groups of each class, classes that occur in few groups first.

    The last column added here is a class that contains every group: it keeps a split from staying empty. Classes in
    fewer groups than splits come after all others, because they cannot be in every split.
    """
    columns = np.column_stack([present, np.ones(len(present), bool)])
    counts = columns.sum(axis=0)
    for column in np.lexsort([counts, counts < splits]):
        yield np.flatnonzero(columns[:, column])


def _added_cost(contents: Shares, errors: Shares) -> Shares:
    """Return what groups (G, C) add to the squared errors of splits (S, C): |e + c|^2 - |e|^2 as (G, S)."""
    return np.asarray((contents**2).sum(axis=1, keepdims=True) + 2 * contents @ errors.T)
