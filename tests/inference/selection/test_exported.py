"""Exported graphs come from other people: what they raise and return is checked."""

from types import SimpleNamespace

import numpy as np
import pytest

from rsft.errors import WeightsError
from rsft.inference.engines.base import EngineSpec
from rsft.inference.engines.graph import GraphModel, graph_engine
from rsft.models.outputs import ClassifierOutputs
from tests.helpers.messages import mentions
from tests.helpers.scenes import toy_bundle

IMAGES = np.ones((2, 3, 8, 8), np.float32)


def run_graph(infer):
    bundle = toy_bundle()
    bundle.recipe.evaluate = SimpleNamespace(tta="none", margin=0, crop_margin=0)
    return graph_engine(bundle, GraphModel(infer), EngineSpec("onnx")).infer(IMAGES)


def test_a_graph_of_the_bundle():
    outputs = run_graph(lambda images: ClassifierOutputs(np.ones((2, 2)), np.ones((2, 5))))
    assert outputs.logits.shape == (2, 2) and outputs.features.dtype == np.float32


def test_a_graph_that_cannot_be_run():
    def infer(images):
        raise KeyError("no input images\nsecond line")

    with pytest.raises(WeightsError, match=mentions("exported graph", "no input images")):
        run_graph(infer)


GOOD = np.ones((2, 2))


@pytest.mark.parametrize(
    ("logits", "features"),
    [(np.ones((2, 3)), GOOD), (np.ones((1, 2)), GOOD), (np.ones(2), GOOD), (GOOD, np.ones((3, 5))),
     (GOOD, np.ones((2, 5, 1))), (np.ones((2, 2), np.int64), GOOD), (GOOD, np.ones((2, 5), np.complex64))],
)  # fmt: skip
def test_a_graph_that_is_not_one_of_the_bundle(logits, features):
    with pytest.raises(WeightsError, match=mentions("logits", "2 classes")):
        run_graph(lambda images: ClassifierOutputs(logits, features))
