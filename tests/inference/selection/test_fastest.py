"""Which engine a job uses."""

import json
from functools import partial

import numpy as np
import pytest

from rsft.errors import RequestError
from rsft.inference.engines import pytorch
from rsft.inference.engines.base import EngineSpec, find_engine
from rsft.inference.engines.graph import LoadedEngine
from rsft.inference.predict.chip_files import SourceChip
from rsft.inference.predict.pipeline import make_batches, read_sample
from rsft.inference.selection import fastest
from rsft.inference.selection.selection import select_engine
from rsft.models.outputs import ClassifierOutputs
from rsft.recipe.schema import EvaluateSection
from tests.helpers import scenes
from tests.helpers.messages import mentions

ERRORS = {
    "torch fp32": 0.0,
    "torch bf16": 0.1,
    "onnx fp32": 1e-5,
    "openvino fp32": 1e-6,
    "openvino bf16": 1e-3,
}
SPEEDS = {
    "torch bf16": 9.0,
    "onnx fp32": 1.5,
    "openvino fp32": 2.0,
    "openvino bf16": 3.0,
}


class BrightChips:
    """Bright chips; the first one cannot be classified."""

    def __len__(self):
        return 100

    def read(self, number):
        pixels = np.full((8, 8, 1 if number else 3), 9 + number, np.uint8)
        pixels[0, 0] = number
        return SourceChip(pixels, None, None, {"chip": number}, False)


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    """Engines with the errors and speeds above; returns the names of those that were
    loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = []

    def load_engine(bundle, spec, device, images=None):
        if str(spec) not in ERRORS:
            raise RuntimeError("no compiler\nand a long story")

        def infer(images):
            error = np.float32(ERRORS[str(spec)])
            logits = np.stack(
                [images.mean((1, 2, 3)) + error, -images.mean((1, 2, 3))], 1
            )
            return ClassifierOutputs(logits, np.zeros((len(images), 1), np.float32))

        names.append(str(spec))
        return LoadedEngine(infer, scenes.toy_contract(), spec)

    monkeypatch.setattr(fastest, "load_engine", load_engine)
    monkeypatch.setattr(pytorch, "find_cxx_compiler", lambda: "g++")
    monkeypatch.setattr(
        fastest, "measure_speedup", lambda plain, short, *_: SPEEDS[names[-1]]
    )
    monkeypatch.setattr(fastest, "MIN_SECONDS_TO_MEASURE", 0.0)
    monkeypatch.setattr(fastest, "MIN_CHIPS_TO_MEASURE", 100)
    monkeypatch.setattr(fastest, "MIN_SECONDS_TO_COMPILE", 0.0)
    monkeypatch.setattr(
        fastest,
        "_time_inference",
        lambda engine, images: (engine.infer(images.numpy()), 10.0),
    )
    return names


def toy_bundle():
    bundle = scenes.toy_bundle()
    bundle.recipe.evaluate = EvaluateSection(tta="none")
    return bundle


def select(name="auto", precision=None, previous=None):
    sample = partial(read_sample, make_batches([BrightChips()], 20))
    return select_engine(toy_bundle(), name, precision, "cpu", sample, 100, previous)


def test_auto_selects_the_fastest_engine_that_agrees(loaded):
    selected = select()
    assert (
        selected.summary
        == "engine: openvino bf16; 3.0 x torch fp32; logits differ by 0.001"
    )
    measured = selected.metadata["benchmarks"]
    assert measured["torch bf16"] == {
        "speed": 9.0,
        "open": pytest.approx(0, abs=1),
        "difference": pytest.approx(0.1),
        "fits": False,
    }
    assert measured["torch bf16, compiled"] == {"failed": "no compiler"}
    candidates = [name for name in measured if name in ERRORS or "compiled" in name]
    assert candidates == [
        "torch fp32",
        "torch bf16",
        "torch bf16, compiled",
        *list(ERRORS)[2:],
    ]
    assert (
        selected.metadata["requested"] == "auto"
        and selected.metadata["version"]["openvino"]
    )


def test_engines_are_measured_once(loaded):
    select()
    loaded.clear()
    assert select().metadata["kind"] == "openvino bf16" and loaded == [
        "torch fp32",
        "openvino bf16",
    ]


def test_an_engine_that_differs_on_these_chips_is_not_selected(loaded, monkeypatch):
    select()
    monkeypatch.setitem(ERRORS, "openvino bf16", 1.0)
    assert select().summary.startswith("engine: openvino fp32; 2.0 x torch fp32")


def test_precision_limits_the_choice(loaded):
    assert select(precision="fp32").metadata["kind"] == "openvino fp32"
    with pytest.raises(RequestError, match=mentions("int8", "differ", "float32")):
        select(precision="int8")


def test_a_resumed_job_uses_its_engine_again(loaded):
    assert select(previous="onnx fp32").metadata["kind"] == "onnx fp32"
    assert select(previous="torch fp32").metadata["kind"] == "torch fp32"


@pytest.mark.parametrize(
    ("limit", "value"), [("MIN_SECONDS_TO_MEASURE", 1e6), ("MIN_CHIPS_TO_MEASURE", 101)]
)
def test_engines_are_not_measured_for_a_short_job(loaded, monkeypatch, limit, value):
    monkeypatch.setattr(fastest, limit, value)
    assert (
        select().summary
        == "engine: torch fp32; job too short to benchmark other engines"
    )
    assert loaded == ["torch fp32"]


def test_time_to_load_counts(loaded, tmp_path):
    select()
    [path] = tmp_path.rglob("benchmarks-*.json")
    benchmarks = json.loads(path.read_text())
    benchmarks["openvino bf16"]["open"] = 900.0
    path.write_text(json.dumps(benchmarks))
    assert select().metadata["kind"] == "openvino fp32"


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        (
            "tensorrt",
            None,
            (
                "neither an engine nor the path of an export .* choose auto, .*onnx,"
                " torch, openvino"
            ),
        ),
        ("torch", "int8", "no int8 for torch: rsft does not quantize PyTorch networks"),
        ("onnx", "bf16", "ONNX Runtime has no bfloat16"),
        ("onnx", "fp64", "no fp64 for onnx: onnx supports fp32 or int8"),
        ("/", "fp32", "the precision of an export is fixed"),
        ("/", None, "the folder is not an export: export.json is missing"),
    ],
)
def test_wrong_requests_are_refused(name, precision, message):
    with pytest.raises(RequestError, match=message):
        select(name, precision)


def test_a_graph_engine_computes_on_the_cpu_only():
    with pytest.raises(RequestError, match=mentions("onnx", "CPU only")):
        find_engine("onnx").check("fp32", "cuda")
    assert str(EngineSpec("onnx")) == "onnx fp32"
