"""Splits of labeled samples, and long tails of the training split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rsft.data.chips.record import (
    ChipRecord,
    long_tail_counts,
    sample_per_class,
    stratified_split,
)
from rsft.data.datasets.formats.labeled_files import LabeledFile
from rsft.errors import RequestError

L = TypeVar("L", bound=LabeledFile)
R = TypeVar("R", bound=LabeledFile | ChipRecord)
G = TypeVar("G", bound=Hashable)
Shares = NDArray[np.float64]


def check_val_share(val: float) -> None:
    """Raise RequestError if a validation share is not in [0, 1)."""
    if not 0 <= val < 1:
        raise RequestError(
            f"the validation share is {val}",
            "--val",
            "give a share of at least 0 and below 1",
        )


def hold_out(samples: Sequence[R], share: float, seed: int) -> tuple[list[R], list[R]]:
    """Split off a validation split: a share of each class.

    Returns:
        The remaining samples, and the held-out samples with the split "val".
    """
    if not samples:
        return [], []
    labels = [sample.label for sample in samples]
    remaining, held_out = stratified_split(labels, share, seed)
    return (
        [samples[index] for index in remaining],
        [replace(samples[index], split="val") for index in held_out],
    )


def split_off_test(samples: Sequence[R], share: float) -> list[R]:
    """Give a share of the validation samples of each class the split "test".

    They are taken at even steps in their order: with a share of 0.5, every second
    sample of a class. No seed is needed, so the chips on which settings are chosen and
    those that are reported stay apart in every store of the same source.

    Args:
        samples: samples of any split.
        share: share of the validation samples of each class.

    Returns:
        All samples in the same order.
    """
    seen = Counter[str]()
    result = []
    for sample in samples:
        if sample.split == "val":
            before = math.floor(seen[sample.label] * share)
            seen[sample.label] += 1
            if math.floor(seen[sample.label] * share) > before:
                sample = replace(sample, split="test")
        result.append(sample)
    return result


def subsample_long_tail(
    samples: Sequence[L], classes: Sequence[str], ratio: float, seed: int
) -> list[L]:
    """Reduce the samples of each class to the counts of `long_tail_counts`.

    Args:
        samples: samples with a label.
        classes: class names; classes of equal count are ranked in this order.
        ratio: size of the largest class over that of the smallest.
        seed: seed of the random choice.

    Returns:
        The selected samples, in their original order.
    """
    if not samples:
        return []
    labels = [sample.label for sample in samples]
    counts = Counter(labels)
    available = {label: counts[label] for label in classes if counts[label]}
    selected = sample_per_class(labels, long_tail_counts(available, ratio), seed)
    return [samples[index] for index in selected]


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
    sizes = counts[random_order].sum(axis=1)
    rank = random_order[np.argsort(-sizes, kind="stable")]
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
