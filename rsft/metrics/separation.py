"""How far the classes of a feature space stand apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rsft.types import GROUPS


def class_distances(features: NDArray[np.floating], labels: NDArray[np.integer], n_classes: int) -> NDArray[np.float64]:
    """Of every class, the mean cosine distance of its mean direction to those of the other classes (C,), 0-2.

    The mean direction is that of the class's features, each of length 1. NaN for a class without chips, or without
    another one to be far from.
    """
    present = np.unique(labels)
    distances = np.full(n_classes, np.nan)
    if len(present) < 2:
        return distances
    directions = _unit(features.astype(np.float64))
    means = _unit(np.stack([directions[labels == index].mean(axis=0) for index in present]))
    apart = 1 - means @ means.T
    np.fill_diagonal(apart, 0)
    distances[present] = apart.sum(axis=1) / (len(present) - 1)
    return distances


def distance_by_group(distances: NDArray[np.float64], groups: Mapping[str, Sequence[int]]) -> dict[str, float | None]:
    """Means over all classes and over those of each group; None where none has a distance."""
    members = {"all": np.arange(len(distances))} | {name: np.array(groups.get(name, ()), int) for name in GROUPS}
    known = {name: distances[indices][~np.isnan(distances[indices])] for name, indices in members.items()}
    return {name: float(values.mean()) if len(values) else None for name, values in known.items()}


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float64] = rows / np.maximum(lengths, 1e-12)
    return unit
