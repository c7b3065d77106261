"""Exported graphs come from other people: what they raise and return is checked."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rsft.errors import RequestError, WeightsError
from rsft.inference.engines.base import EngineSpec, engine_threads
from rsft.inference.engines.graph import GraphModel, graph_engine
from rsft.inference.selection.selection import load_exported_engine
from rsft.models.outputs import ClassifierOutputs
from tests.helpers.messages import mentions
from tests.helpers.scenes import toy_bundle

IMAGES = np.ones((2, 3, 8, 8), np.float32)


def run_graph(infer):
    bundle = toy_bundle()
    bundle.recipe.evaluate = SimpleNamespace(tta="none", margin=0, crop_margin=0)
    return graph_engine(
        bundle, GraphModel(infer), EngineSpec("onnx"), Path("model.onnx")
    ).infer(IMAGES)


def test_a_graph_of_the_bundle():
    outputs = run_graph(
        lambda images: ClassifierOutputs(np.ones((2, 2)), np.ones((2, 5)))
    )
    assert outputs.logits.shape == (2, 2) and outputs.features.dtype == np.float32


def test_a_graph_that_cannot_be_run():
    def infer(images):
        raise KeyError("no input images\nsecond line")

    with pytest.raises(
        WeightsError, match=mentions("exported graph", "no input images", "model.onnx")
    ):
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


FAULTS = {
    '{"files": [], "format": 1}': (WeightsError, "export.json is damaged"),
    '{"files": {}, "format": 9}': (WeightsError, "export format 9; this rsft reads 1"),
    '{"files": {}, "format": 1, "bundle_sha256": "0a"}': (
        RequestError,
        "an export of the bundle 0a, not of",
    ),
    '{"files": {}, "format": 1, "bundle_sha256": "SHA", "whole": true}': (
        RequestError,
        "takes the pixels of chips",
    ),
    '{"files": {}, "format": 1, "bundle_sha256": "SHA", "kind": "timm"}': (
        RequestError,
        "no engine runs timm exports",
    ),
    '{"files": {}, "format": 1, "bundle_sha256": "SHA", "kind": "onnx"}': (
        WeightsError,
        "the graph cannot be opened",
    ),
}


@pytest.mark.parametrize("text", FAULTS)
def test_an_export_that_cannot_be_used(tmp_path, text):
    bundle = toy_bundle()
    error, words = FAULTS[text]
    (tmp_path / "export.json").write_text(text.replace("SHA", bundle.sha256))
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(error, match=words):
        load_exported_engine(bundle, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("variable", "siblings", "threads"), [("3", "0", 3), ("", "0", 1), ("x", None, 2)]
)
def test_threads_without_pytorch(monkeypatch, tmp_path, variable, siblings, threads):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(
        "rsft.inference.engines.base._TOPOLOGY", str(tmp_path / "cpu{}")
    )
    for number in (0, 1) if siblings else ():
        (tmp_path / f"cpu{number}").write_text(siblings)
    assert engine_threads() == threads
