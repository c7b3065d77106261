"""Long-tailed class distributions: groups, exponential profiles, and subsets that keep every class."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from rsft.types import GROUPS, Indices


def group_by_count(counts: Mapping[str, int], head: int = 100, tail: int = 20) -> dict[str, list[str]]:
    """Group classes by their number of training chips; a group may be empty.

    Args:
        counts: number of training chips by class.
        head: classes with more chips are "head".
        tail: classes with fewer chips are "tail"; all others are "medium".

    Returns:
        Class names by group, in the order of `counts`.

    Example:
        >>> group_by_count({"cargo": 500, "tug": 30, "dredger": 4})
        {'head': ['cargo'], 'medium': ['tug'], 'tail': ['dredger']}
    """
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name, count in counts.items():
        groups["head" if count > head else "tail" if count < tail else "medium"].append(name)
    return groups


def long_tail_counts(available: Mapping[str, int], ratio: float) -> dict[str, int]:
    """Return the exponential profile n_c = n_max * ratio^(-c / (C - 1)), rounded down (Cao et al. 2019, LDAM).

    Classes are ranked by descending `available`; ties keep their order. A class gets at least one chip and at most as
    many as are available.

    Args:
        available: number of chips by class.
        ratio: largest over smallest class.

    Returns:
        Number of chips by class.
    """
    ranked = sorted(available, key=lambda name: -available[name])
    largest, last = max(available.values()), max(1, len(ranked) - 1)
    profile = {name: int(largest * ratio ** (-rank / last)) for rank, name in enumerate(ranked)}
    return {name: max(1, min(profile[name], count)) for name, count in available.items()}


def sample_per_class(labels: Sequence[Hashable], counts: Mapping[str, int], seed: int) -> Indices:
    """Draw `counts[label]` samples of each label without replacement.

    Args:
        labels: label of every sample (N,).
        counts: number of samples by label.
        seed: seed of the draw.

    Returns:
        Ascending indices into `labels`.
    """
    rng = np.random.default_rng(seed)
    members = _indices_by_label(labels)
    drawn = [rng.permutation(members[label])[: counts[label]] for label in counts if label in members]
    return np.sort(np.concatenate(drawn))


def stratified_split(labels: Sequence[Hashable], share: float, seed: int) -> tuple[Indices, Indices]:
    """Split samples in two, class by class.

    A class of two or more samples has at least one on each side. A class of one sample stays in the first part.

    Args:
        labels: label of every sample (N,).
        share: share of each class in the second part, 0-1.
        seed: seed of the split.

    Returns:
        Ascending indices of the first part and of the second part.
    """
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(members)[: min(max(round(share * len(members)), 1), len(members) - 1)]
        for members in _indices_by_label(labels).values()
    ]
    in_second = np.zeros(len(labels), bool)
    in_second[np.concatenate(chosen)] = True
    return np.flatnonzero(~in_second), np.flatnonzero(in_second)


def _indices_by_label(labels: Sequence[Hashable]) -> dict[Hashable, Indices]:
    """Return the indices of each label; labels are in the order of their first appearance."""
    members: dict[Hashable, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    return {label: np.array(indices) for label, indices in members.items()}
