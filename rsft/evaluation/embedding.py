"""What adaptation did to the features: how far classes stand apart, and a map of the chips before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from rsft.data.loading.datamodule import ChipImages
from rsft.metrics.separation import class_distances, distance_by_group

Features = NDArray[np.float32]

MOST = 1500
"""Chips on a map: more can no longer be told apart, and take long."""


def distances(
    features: Mapping[str, Features], labels: NDArray[np.integer], n_classes: int, groups: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, float | None]]:
    """Inter-class cosine distance by stage ("frozen", "adapted") and group (MetaPEFT, Table 5)."""
    return {
        stage: distance_by_group(class_distances(found, labels, n_classes), groups) for stage, found in features.items()
    }


def embedding(features: Mapping[str, Features], chips: ChipImages) -> pd.DataFrame:
    """A row a chip, at most `MOST` evenly over the table: name, path, class, and <stage>_x, <stage>_y of each stage."""
    chosen = np.linspace(0, len(chips) - 1, min(MOST, len(chips))).astype(int)
    table = chips.table[["name", "path", "class"]].iloc[chosen].reset_index(drop=True)
    for stage, found in features.items():
        table[[f"{stage}_x", f"{stage}_y"]] = tsne(found[chosen])
    return table


def tsne(features: Features, seed: int = 0) -> NDArray[np.float32]:
    """t-SNE (van der Maaten and Hinton 2008) by cosine distance, (N, D) -> (N, 2); zeros for fewer than four chips."""
    count = len(features)
    if count < 4:
        return np.zeros((count, 2), np.float32)
    perplexity = min(30.0, (count - 1) / 3)
    model = TSNE(perplexity=perplexity, metric="cosine", init="random", random_state=seed)
    return np.asarray(model.fit_transform(features), np.float32)
