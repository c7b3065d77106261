"""The module of a bundle takes pixels, and returns the logits of `predict`."""

import numpy as np
import pytest
import torch

from rsft.data.imagery.stretch import Stretch
from rsft.errors import DataError, RequestError
from rsft.inference.predict.chip_module import ChipTransforms
from tests.helpers.scenes import toy_contract


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_logits_are_those_of_the_bundle(model, dtype):
    module = model.module("uint8")
    assert not module.training
    for side in (64, 50, 80):
        chips = torch.randint(0, 256, (3, 1, side, side), dtype=torch.uint8)
        with torch.inference_mode():
            logits = module(chips.to(dtype)).numpy()
        np.testing.assert_allclose(logits, model.logits(chips), atol=1e-4)
        inputs = module.transforms(chips)
        assert inputs.shape == (3, 3, 32, 32)
        assert torch.equal(module.network(inputs), module(chips))


def test_the_first_unit_is_the_default(model):
    chips = np.random.default_rng(0).integers(0, 3000, (2, 1, 64, 64), np.uint16)
    pixels = torch.from_numpy(chips.astype(np.float32))
    with torch.inference_mode():
        logits = model.module()(pixels).numpy()
    np.testing.assert_allclose(logits, model.logits(chips), atol=1e-4)


def test_other_pixels_are_refused(model):
    with pytest.raises(DataError, match="sigma0 pixels"):
        model.module("sigma0")
    module = model.module()
    for shape in [(1, 64, 64), (1, 2, 64, 64), (1, 1, 64, 32)]:
        with pytest.raises(RequestError, match="square chips of gray"):
            module(torch.zeros(shape))
    brightest = Stretch(curve="linear", low=0, high=None)
    contract = toy_contract(units={"uint8": (brightest,) * 3})
    with pytest.raises(RequestError, match="maximum of each chip") as error:
        ChipTransforms(contract, None)
    assert error.value.location == "data.stretch"
