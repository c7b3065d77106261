"""Whether sets of classes hold what they promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from rsft.metrics.bootstrap import LEVEL
from rsft.types import GROUPS


@dataclass(frozen=True)
class Coverage:
    """Of some chips: how many have their class in their set, and how much the sets say.

    Attributes:
        value: the share of chips whose set holds their class.
        low, high: its exact 95 % interval (Clopper and Pearson 1934).
        size: mean number of classes in a set.
        single: share of the sets with one class.
        chips: how many there are.
    """

    value: float
    low: float
    high: float
    size: float
    single: float
    chips: int

    def to_dict(self) -> dict[str, Any]:
        """The numbers by name."""
        return asdict(self)


def coverage_by_group(
    sets: NDArray[np.bool_], labels: NDArray[np.integer], groups: Mapping[str, Sequence[int]]
) -> dict[str, Coverage | None]:
    """Coverage of all chips and of those of each group; None where a group has no chip.

    Args:
        sets: (N, C), the classes that each chip may be.
        labels: (N,) class indices.
        groups: class indices of head, medium and tail; a group may be empty or left out.
    """
    members = {"all": np.arange(sets.shape[1])} | {name: np.array(groups.get(name, ()), int) for name in GROUPS}
    chosen = {name: np.isin(labels, indices) for name, indices in members.items()}
    return {name: _coverage(sets[mask], labels[mask]) if mask.any() else None for name, mask in chosen.items()}


def coverage_by_class(sets: NDArray[np.bool_], labels: NDArray[np.integer]) -> list[float | None]:
    """The share of each class's chips whose set holds it; None where it has no chip."""
    own = [sets[labels == index, index] for index in range(sets.shape[1])]
    return [float(held.mean()) if len(held) else None for held in own]


def _coverage(sets: NDArray[np.bool_], labels: NDArray[np.integer]) -> Coverage:
    held, sizes = sets[np.arange(len(labels)), labels], sets.sum(axis=1)
    spread = binomtest(int(held.sum()), len(held)).proportion_ci(LEVEL)
    return Coverage(
        value=float(held.mean()),
        low=float(spread.low),
        high=float(spread.high),
        size=float(sizes.mean()),
        single=float((sizes == 1).mean()),
        chips=len(held),
    )
