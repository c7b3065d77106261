"""Splits that keep together what belongs together: a scene, an image, a vessel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Group = TypeVar("Group", bound=Hashable)


def split_groups(
    labels: Sequence[str], groups: Sequence[Group], shares: Mapping[str, float], seed: int
) -> dict[Group, str]:
    """Deal whole groups to the splits of `shares`, so that each class comes near its share in every split.

    The largest group is dealt first, ties at random, each to where it most lessens the squared misses of the shares,
    summed over classes. Splits that are empty when no more groups are left than they come first.
    """
    classes = {label: index for index, label in enumerate(sorted(set(labels)))}
    counts: dict[Group, NDArray[np.float64]] = {}
    for label, group in zip(labels, groups, strict=True):
        counts.setdefault(group, np.zeros(len(classes)))[classes[label]] += 1
    total = np.sum(list(counts.values()), axis=0)
    order = list(counts)
    order = [order[index] for index in np.random.default_rng(seed).permutation(len(order))]
    order.sort(key=lambda group: -counts[group].sum())
    wanted = [split for split, share in shares.items() if share > 0]
    have = {split: np.zeros(len(classes)) for split in wanted}
    dealt: dict[Group, str] = {}
    for index, group in enumerate(order):
        empty = [split for split in wanted if split not in dealt.values()]
        choice = empty if len(empty) >= len(order) - index else wanted
        added = {split: (have[split] + counts[group]) / total - shares[split] for split in choice}
        now = {split: have[split] / total - shares[split] for split in choice}
        dealt[group] = min(choice, key=lambda split: float((added[split] ** 2).sum() - (now[split] ** 2).sum()))
        have[dealt[group]] += counts[group]
    return dealt
