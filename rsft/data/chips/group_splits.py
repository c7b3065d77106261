"""Splits of samples that keep groups, such as scenes, together."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rsft.types import Indices

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
    names = list(dict.fromkeys(groups))
    row = {group: index for index, group in enumerate(names)}
    classes, columns = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(names), len(classes)))
    rows = np.array([row[group] for group in groups], int)
    np.add.at(counts, (rows, columns), 1)
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


def find_first_connected(count: int, keys: Iterable[tuple[int, Hashable]]) -> list[int]:
    """Return the first sample that each one is connected with, also through others.

    Args:
        count: number of samples (N).
        keys: pairs of a sample and a key. Samples with the same key are connected.
    """
    from scipy.cluster.hierarchy import DisjointSet

    sets = DisjointSet(range(count))
    first_with: dict[Hashable, int] = {}
    for index, key in keys:
        sets.merge(index, first_with.setdefault(key, index))
    first_of: dict[int, int] = {}
    return [first_of.setdefault(sets[index], index) for index in range(count)]


def _assign_one_of_each(contents: Shares, errors: Shares) -> Indices:
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
