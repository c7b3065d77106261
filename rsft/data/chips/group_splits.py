"""Splits of samples that keep groups, such as scenes, together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

G = TypeVar("G", bound=Hashable)
Shares = NDArray[np.float64]


def split_groups(
    labels: Sequence[str], groups: Sequence[G], shares: Mapping[str, float], seed: int
) -> dict[G, str]:
    """Assign whole groups to splits, so that each class comes near its share in each.

    The cost of an assignment is the sum over classes and splits of the squared
    difference between actual and requested share. First, every class that occurs in
    enough groups gets one group in each split, rare classes first, by the assignment of
    least cost. Then the remaining groups are assigned one by one, the largest first,
    each to the split of least cost. Ties are broken at random. No split stays empty if
    there are enough groups.

    Args:
        labels: class of each sample (N,).
        groups: group of each sample (N,).
        shares: requested share of each split; a split with share 0 gets no group.
        seed: seed of the random order.

    Returns:
        The split of each group.
    """
    splits = [split for split, share in shares.items() if share > 0]
    counts, names = _count_labels(labels, groups)
    random_order = np.random.default_rng(seed).permutation(len(names))
    rank = random_order[np.argsort(-counts[random_order].sum(axis=1), kind="stable")]
    # groups, the largest first: shares (G, C)
    contents = counts[rank] / counts.sum(axis=0)
    # actual - requested (S, C)
    requested = np.array([[float(shares[split])] for split in splits])
    errors = -np.tile(requested, contents.shape[1])
    assigned = _assign_one_of_each(contents, errors)
    for group in np.flatnonzero(assigned < 0):
        split = _added_cost(contents[[group]], errors).argmin()
        assigned[group] = split
        errors[split] += contents[group]
    return {
        names[index]: splits[split] for index, split in zip(rank, assigned, strict=True)
    }


def _count_labels(labels: Sequence[str], groups: Sequence[G]) -> tuple[Shares, list[G]]:
    """Return the counts (G, C) of the samples by group and class, and the groups."""
    row = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    column = {label: index for index, label in enumerate(sorted(set(labels)))}
    counts = np.zeros((len(row), len(column)))
    for label, group in zip(labels, groups, strict=True):
        counts[row[group], column[label]] += 1
    return counts, list(row)


def _assign_one_of_each(contents: Shares, errors: Shares) -> NDArray[np.int64]:
    """Assign a group of every class to each split, and update the errors (S, C).

    Args:
        contents: shares of the groups (G, C), the largest group first.
        errors: actual minus requested shares of the splits (S, C).

    Returns:
        The split of each group (G,); -1 for one that is not assigned.
    """
    from scipy.optimize import linear_sum_assignment

    assigned = np.full(len(contents), -1)
    # a last class that contains every group keeps a split from staying empty. Rare
    # classes come first, and classes in fewer groups than splits after all others,
    # because they cannot be in every split
    present = np.column_stack([contents > 0, np.ones(len(contents), bool)])
    occurrences = present.sum(axis=0)
    for class_index in np.lexsort([occurrences, occurrences < len(errors)]):
        members = np.flatnonzero(present[:, class_index])
        open_splits = np.setdiff1d(np.arange(len(errors)), assigned[members])
        candidates = members[assigned[members] < 0]
        costs = _added_cost(contents[candidates], errors[open_splits])
        rows, columns = linear_sum_assignment(costs)
        chosen = candidates[rows]
        assigned[chosen] = open_splits[columns]
        errors[open_splits[columns]] += contents[chosen]
    return assigned


def _added_cost(contents: Shares, errors: Shares) -> Shares:
    """Return what groups add to the squared errors: |e + c|^2 - |e|^2.

    Args:
        contents: shares of the groups (G, C).
        errors: errors of the splits (S, C).

    Returns:
        The costs (G, S).
    """
    squares = (contents**2).sum(axis=1, keepdims=True)
    return np.asarray(squares + 2 * contents @ errors.T)
