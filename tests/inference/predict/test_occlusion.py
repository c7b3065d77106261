"""A map shows which cell of a chip speaks for its class."""

import numpy as np
import pytest

from rsft.errors import DataError, RequestError
from rsft.inference.engines.base import REFERENCE, LoadedEngine
from rsft.inference.predict.occlusion import occlusion_maps
from rsft.inference.predict.predictor import Predictor
from rsft.models.outputs import ClassifierOutputs
from tests.helpers.scenes import brightness_logits, toy_bundle, toy_contract


def corner_logits(inputs):
    """Return logits of which the second one is the sum of the upper left quarter."""
    half = inputs.shape[-1] // 2
    value = inputs[:, :, :half, :half].sum(axis=(1, 2, 3))[:, None]
    return ClassifierOutputs(np.concatenate([0 * value, value], 1), value)


def test_the_cell_that_decides_has_the_loss():
    inputs = np.zeros((2, 1, 8, 8), np.float32)
    inputs[0, :, 1, 1] = 64
    inputs[1, :, 6, 6] = -64  # the first class is predicted for any corner of zeros
    maps = occlusion_maps(corner_logits, inputs, 2)
    # the mean of all pixels takes the place of 64 in the corner
    assert maps[0].tolist() == [[(64 - 16) / 2, 0], [0, 0]]
    assert maps[1].tolist() == [[-8, 0], [0, 0]]


def test_chips_are_explained():
    contract = toy_contract(size=8)
    engine = LoadedEngine(brightness_logits, contract, REFERENCE)
    model = Predictor(toy_bundle(contract=contract), engine)
    chip = np.full((16, 16), 200, np.uint8)
    chip[:8, :8] = 255
    chip[8:, 8:] = 145
    chip[8:, :8] = 201
    (cells,) = model.explain(chip, cells=2)
    assert cells[0, 0] > cells[1, 0] and cells[1, 1] < 0
    assert model.explain([chip] * 3, cells=3).shape == (3, 3, 3)
    for count in (0, 9):
        with pytest.raises(RequestError, match="cells"):
            model.explain(chip, cells=count)
    with pytest.raises(DataError, match="chip 1"):
        model.explain([chip, chip.astype(np.float32)])
