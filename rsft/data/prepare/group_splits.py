"""Splits that keep together what belongs together: a scene, an image, a vessel."""

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
    """Deal whole groups to the splits of `shares`, so that each class comes near its share in every split.

    What counts is the sum of the squared misses of the shares over classes and splits. First, every class that is in
    enough groups gets one into each split, the class of the fewest groups first; those are the groups whose assignment
    misses least. Then the others are dealt, the largest first, each to where it misses least. Ties fall at random. No
    split stays empty while there are groups.
    """
    splits = [split for split, share in shares.items() if share > 0]
    order, held = _largest_first(labels, groups, seed)
    misses = np.tile([[-float(shares[split])] for split in splits], held.shape[1])  # (S, C): of the shares, so far
    dealt = np.full(len(order), -1)
    for members in _scarce_first(held > 0, len(splits)):
        lacking = np.setdiff1d(np.arange(len(splits)), dealt[members])
        free = members[dealt[members] < 0]
        which, where = linear_sum_assignment(_harm(held[free], misses[lacking]))
        dealt[free[which]] = lacking[where]
        misses[lacking[where]] += held[free[which]]
    for group in np.flatnonzero(dealt < 0):
        dealt[group] = split = _harm(held[[group]], misses).argmin()
        misses[split] += held[group]
    return {group: splits[split] for group, split in zip(order, dealt, strict=True)}


def _largest_first(labels: Sequence[str], groups: Sequence[Group], seed: int) -> tuple[list[Group], Shares]:
    """The groups, those of one size in random order, and the share of each class that each of them holds (G, C)."""
    row = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    column = {label: index for index, label in enumerate(sorted(set(labels)))}
    counts = np.zeros((len(row), len(column)))
    np.add.at(counts, ([row[group] for group in groups], [column[label] for label in labels]), 1)
    order = np.random.default_rng(seed).permutation(len(row))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    names = list(row)
    return [names[index] for index in order], counts[order] / counts.sum(axis=0)


def _scarce_first(present: NDArray[np.bool_], splits: int) -> Iterator[Indices]:
    """The groups of each class, classes in few groups first; of all classes before those in fewer groups than splits.

    That "class of all" keeps a split from staying empty; a class that cannot be everywhere must not get in its way.
    """
    columns = np.column_stack([present, np.ones(len(present), bool)])
    counts = columns.sum(axis=0)
    for column in np.lexsort([counts, counts < splits]):
        yield np.flatnonzero(columns[:, column])


def _harm(held: Shares, misses: Shares) -> Shares:
    """What groups (G, C) would add to the squared misses of splits (S, C): |m + h|^2 - |m|^2 as (G, S)."""
    return np.asarray((held**2).sum(axis=1, keepdims=True) + 2 * held @ misses.T)
