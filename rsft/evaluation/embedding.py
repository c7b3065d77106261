"""How fine-tuning changed the features: distances between classes, and a map of the chips before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from rsft.data.loading.datamodule import ChipImages
from rsft.metrics.separation import class_mean_distances, distance_by_group

Features = NDArray[np.float32]

MAX_MAP_CHIPS = 1500
"""Largest number of chips on a map. More of them overlap, and t-SNE takes long."""


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
        By stage, then by group and "all"; None for a group without a distance.
    """
    return {
        stage: distance_by_group(class_mean_distances(values, labels, n_classes), groups)
        for stage, values in features.items()
    }


def tsne_table(features: Mapping[str, Features], chips: ChipImages) -> pd.DataFrame:
    """Place chips on a t-SNE map for each stage.

    Args:
        features: (N, D) by stage: "frozen" and "adapted".
        chips: the N chips. At most `MAX_MAP_CHIPS` are chosen, evenly over their table.

    Returns:
        One row per chosen chip: name, path, class, and `<stage>_x`, `<stage>_y` for each stage.
    """
    chosen = np.linspace(0, len(chips) - 1, min(MAX_MAP_CHIPS, len(chips))).astype(int)
    table = chips.table[["name", "path", "class"]].iloc[chosen].reset_index(drop=True)
    for stage, values in features.items():
        table[[f"{stage}_x", f"{stage}_y"]] = tsne(values[chosen])
    return table


def tsne(features: Features, seed: int = 0) -> NDArray[np.float32]:
    """Compute a t-SNE map by cosine distance (van der Maaten and Hinton 2008).

    Args:
        features: (N, D).
        seed: of the random start.

    Returns:
        (N, 2); zeros if there are fewer than four chips.
    """
    count = len(features)
    if count < 4:
        return np.zeros((count, 2), np.float32)
    perplexity = min(30.0, (count - 1) / 3)
    model = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=seed)
    return np.asarray(model.fit_transform(features), np.float32)
