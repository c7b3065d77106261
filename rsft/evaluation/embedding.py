"""Two-dimensional maps of the features of chips."""

import numpy as np
from sklearn.manifold import TSNE

from rsft.types import Floats32

MAX_MAP_CHIPS = 800
"""Largest number of chips on a map. More chips overlap, and t-SNE takes long."""
_SEED = 0


def tsne(features: Floats32) -> Floats32:
    """Compute a t-SNE map of features (N, D) by cosine distance.

    Source: van der Maaten and Hinton 2008.

    Returns:
        Positions (N, 2); zeros for fewer than four chips.
    """
    count = len(features)
    if count < 4:
        return np.zeros((count, 2), np.float32)
    return np.asarray(
        TSNE(
            perplexity=min(30.0, (count - 1) / 3),
            metric="cosine",
            init="random",
            random_state=_SEED,
        ).fit_transform(features),
        np.float32,
    )
