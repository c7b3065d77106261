"""Measure which cells of a chip speak for its class, by occlusion."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from rsft.inference.engines.base import InferenceFn
from rsft.types import Floats


def occlusion_maps(
    infer: InferenceFn, inputs: NDArray[np.float32], cells: int
) -> Floats:
    """Return the loss of margin of each chip if a cell is replaced by its mean.

    The margin is the logit of the predicted class, less the mean of all logits.

    Args:
        infer: computes logits of inputs.
        inputs: network inputs (N, P, S, S).
        cells: number of cells along a side.

    Returns:
        Values (N, cells, cells).
    """
    logits = infer(inputs).logits
    predicted = logits.argmax(axis=1)[:, None]

    def margins(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        chosen = np.take_along_axis(logits, predicted, axis=1)[:, 0]
        return chosen - logits.mean(axis=1)

    edges = np.linspace(0, inputs.shape[-1], cells + 1).round().astype(int)
    means = inputs.mean(axis=(2, 3), keepdims=True)
    maps = np.empty((len(inputs), cells, cells))
    for row, col in product(range(cells), repeat=2):
        hidden = inputs.copy()
        rows = slice(edges[row], edges[row + 1])
        cols = slice(edges[col], edges[col + 1])
        hidden[:, :, rows, cols] = means
        maps[:, row, col] = margins(logits) - margins(infer(hidden).logits)
    return maps
