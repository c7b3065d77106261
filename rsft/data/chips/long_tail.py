"""The long tail: groups of classes, exponential profiles, and draws that keep every class."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from rsft.types import GROUPS, Indices


def groups_by_count(counts: Mapping[str, int], head: int = 100, tail: int = 20) -> dict[str, list[str]]:
    """Classes by training count: head above `head`, tail below `tail`, medium between; a group may be empty."""
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name, count in counts.items():
        groups["head" if count > head else "tail" if count < tail else "medium"].append(name)
    return groups


def long_tail_counts(available: Mapping[str, int], ratio: float) -> dict[str, int]:
    """The exponential profile n_c = n_max * ratio^(-c / (C - 1)), rounded down (Cao et al. 2019, LDAM).

    Classes are ranked by descending `available`, ties in the order given; no class gets more than it has or less
    than one.
    """
    ranked = sorted(available, key=lambda name: -available[name])
    largest, last = max(available.values()), max(1, len(ranked) - 1)
    profile = {name: int(largest * ratio ** (-rank / last)) for rank, name in enumerate(ranked)}
    return {name: max(1, min(profile[name], count)) for name, count in available.items()}


def draw(labels: Sequence[Hashable], counts: Mapping[str, int], seed: int) -> Indices:
    """`counts[label]` samples of each label without replacement: ascending indices into `labels`."""
    rng = np.random.default_rng(seed)
    members = _members(labels)
    drawn = [rng.permutation(members[label])[: counts[label]] for label in counts if label in members]
    return np.sort(np.concatenate(drawn))


def stratified_split(labels: Sequence[Hashable], share: float, seed: int) -> tuple[Indices, Indices]:
    """Ascending indices of what stays and of what is set aside: `share` of each class.

    A class of at least two samples has one or more on both sides; a class of one stays whole.
    """
    rng = np.random.default_rng(seed)
    aside = [
        rng.permutation(members)[: min(max(round(share * len(members)), 1), len(members) - 1)]
        for members in _members(labels).values()
    ]
    chosen = np.zeros(len(labels), bool)
    chosen[np.concatenate(aside)] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _members(labels: Sequence[Hashable]) -> dict[Hashable, Indices]:
    """The indices of each label, labels in order of first appearance."""
    members: dict[Hashable, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    return {label: np.array(indices) for label, indices in members.items()}
