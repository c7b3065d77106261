"""Measure how fine-tuning changed the features: distances between classes, and maps of the chips before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from rsft.data.loading.batches import ChipImages
from rsft.metrics.separation import class_mean_distances, distance_by_group

Features = NDArray[np.float32]

MAX_MAP_CHIPS = 1500
"""Largest number of chips on a map. More chips overlap, and t-SNE takes long."""


def distances_by_stage(
    features: Mapping[str, Features], labels: NDArray[np.integer], n_classes: int, groups: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, float | None]]:
    """Measure the inter-class cosine distance of each stage (MetaPEFT, Table 5).

    Args:
        features: (N, D) by stage: "frozen" and "adapted".
        labels: (N,) class indices.
        n_classes: number of classes.
        groups: class indices of head, medium and tail.

    Returns:
        Distance by stage, then by group and "all"; None for a group without a distance.
    """
    return {
        stage: distance_by_group(class_mean_distances(values, labels, n_classes), groups)
        for stage, values in features.items()
    }


def tsne_table(features: Mapping[str, Features], chips: ChipImages) -> pd.DataFrame:
    """Compute a t-SNE map of chips for each stage.

    Args:
        features: (N, D) by stage: "frozen" and "adapted".
        chips: the N chips. The map has at most `MAX_MAP_CHIPS` of them, evenly spaced in their table.

    Returns:
        One row per chip of the map: name, path, class, and `<stage>_x`, `<stage>_y` for each stage.
    """
    indices = np.linspace(0, len(chips) - 1, min(MAX_MAP_CHIPS, len(chips))).astype(int)
    table = chips.table[["name", "path", "class"]].iloc[indices].reset_index(drop=True)
    for stage, values in features.items():
        table[[f"{stage}_x", f"{stage}_y"]] = tsne(values[indices])
    return table


def tsne(features: Features, seed: int = 0) -> NDArray[np.float32]:
    """Compute a t-SNE map by cosine distance (van der Maaten and Hinton 2008).

    Args:
        features: (N, D).
        seed: seed of the random initialization.

    Returns:
        Positions (N, 2); zeros for fewer than four chips.
    """
    count = len(features)
    if count < 4:
        return np.zeros((count, 2), np.float32)
    perplexity = min(30.0, (count - 1) / 3)
    model = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=seed)
    return np.asarray(model.fit_transform(features), np.float32)
