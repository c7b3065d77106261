"""Measure which cells of a chip speak for its class, by occlusion."""

from __future__ import annotations

from itertools import product

import numpy as np

from rsft.inference.engines.base import InferenceFn
from rsft.types import Floats, Floats32


def occlusion_maps(infer: InferenceFn, inputs: Floats32, cells: int) -> Floats:
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
    means = inputs.mean(axis=(2, 3), keepdims=True)
    side = inputs.shape[-1]
    cell_of_pixel = np.arange(side) * cells // side
    maps = []
    for row, col in product(range(cells), repeat=2):
        is_hidden = (cell_of_pixel == row)[:, None] & (cell_of_pixel == col)
        losses = logits - infer(np.where(is_hidden, means, inputs)).logits
        of_class = np.take_along_axis(losses, predicted, axis=1)[:, 0]
        maps.append(of_class - losses.mean(axis=1))
    return np.stack(maps, axis=1).reshape(-1, cells, cells)
