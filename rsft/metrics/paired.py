"""Two classifiers on the same chips: by how much one is better, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from rsft.metrics.bootstrap import Interval, interval
from rsft.types import GROUPS

Hits = NDArray[np.bool_]


@dataclass(frozen=True)
class McNemar:
    """Chips on which two classifiers differ (McNemar 1947), and the exact probability of so uneven a split by chance.

    Attributes:
        first: chips that only the first has right.
        second: chips that only the second has right.
        p: two-sided; 1 where they do not differ.
    """

    first: int
    second: int
    p: float

    def to_dict(self) -> dict[str, Any]:
        """The numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class Paired:
    """The first less the second, in 0-1.

    Attributes:
        differences: of micro and macro accuracy, of the groups that have chips and of their mean `avg`.
        mcnemar: over all chips, and over those of each group that has some.
    """

    differences: dict[str, Interval]
    mcnemar: dict[str, McNemar]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "differences": {name: found.to_dict() for name, found in self.differences.items()},
            "mcnemar": {name: found.to_dict() for name, found in self.mcnemar.items()},
        }


def compare(
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    labels: NDArray[np.integer],
    groups: Mapping[str, Sequence[int]],
    seed: int = 0,
    resamples: int = 1000,
) -> Paired:
    """Compare two classifiers' predicted classes (N,) of the same N chips, by a paired bootstrap stratified by class.

    Both are drawn on the same chips, so what is hard for both does not widen the interval. As in `summarise`, a class
    on whose chips they agree does not vary.

    Args:
        first, second: (N,) predicted class indices.
        labels: (N,) class indices.
        groups: class indices of head, medium and tail; a group may be empty or left out.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: no chip, or arrays of different lengths.
    """
    if not len(labels) or not len(first) == len(second) == len(labels):
        raise ValueError("two predictions of the same chips, at least one, are needed")
    present = np.unique(labels)
    gains, hits = (first == labels).astype(int) - (second == labels), (first == labels, second == labels)
    own = [gains[labels == index] for index in present]
    counts = np.array([len(part) for part in own])
    cells = np.array([[(part == value).sum() for value in (1, 0, -1)] for part in own])
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.multinomial(row.sum(), row / row.sum(), resamples) for row in cells], axis=1)

    members = {name: np.flatnonzero(np.isin(present, groups.get(name, ()))) for name in GROUPS}
    members = {name: places for name, places in members.items() if len(places)}
    found = _means((cells[:, 0] - cells[:, 2]) / counts, counts, members)
    spread = _means((drawn[..., 0] - drawn[..., 2]) / counts, counts, members)
    chips = {"all": np.ones(len(labels), bool)}
    chips |= {name: np.isin(labels, present[places]) for name, places in members.items()}
    return Paired(
        differences={name: interval(float(value), spread[name]) for name, value in found.items()},
        mcnemar={name: _mcnemar(hits[0][mask], hits[1][mask]) for name, mask in chips.items()},
    )


def _means(
    gains: NDArray[np.float64], counts: NDArray[np.int64], members: Mapping[str, NDArray[np.int64]]
) -> dict[str, NDArray[np.float64]]:
    """The means over classes of gains (K,) or (R, K); the results () or (R,)."""
    by_group = {name: gains[..., places].mean(axis=-1) for name, places in members.items()}
    means = {"micro": gains @ counts / counts.sum(), "macro": gains.mean(axis=-1)}
    if by_group:
        means["avg"] = np.mean(list(by_group.values()), axis=0)
    return means | by_group


def _mcnemar(first: Hits, second: Hits) -> McNemar:
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differ = only_first + only_second
    return McNemar(only_first, only_second, float(binomtest(only_first, differ).pvalue) if differ else 1.0)
