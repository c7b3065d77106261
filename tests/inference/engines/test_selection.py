"""Which engine a job takes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from rsft.errors import RequestError
from rsft.inference.engines import selection
from rsft.inference.engines.engines import PLAIN, Kind, Opened
from rsft.inference.engines.selection import choose_engine
from rsft.inference.inputs.chip_source import Chip
from rsft.inference.predict.pipeline import batches
from rsft.models.outputs import Outputs
from tests.helpers.scenes import bundle as made
from tests.helpers.scenes import contract

OFF = {"torch fp32": 0.0, "torch bf16": 0.1, "onnx fp32": 1e-5, "openvino fp32": 1e-6, "openvino bf16": 1e-3}
SPEED = {"torch bf16": 9.0, "onnx fp32": 1.5, "openvino fp32": 2.0, "openvino bf16": 3.0}


class Chips:
    """Bright chips; the first one cannot be classified."""

    def __len__(self):
        return 100

    def read(self, number):
        pixels = np.full((8, 8, 1 if number else 3), 9 + number, np.uint8)
        pixels[0, 0] = number
        return Chip(pixels, None, None, {"chip": number}, False)


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Engines that answer as OFF says and take as long as SPEED says; the names of those that were opened."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = []

    def engine(kind):
        def run(inputs):
            off = np.float32(OFF[str(kind)])
            logits = np.stack([inputs.mean((1, 2, 3)) + off, -inputs.mean((1, 2, 3))], 1)
            return Outputs(logits, np.zeros((len(inputs), 1), np.float32))

        names.append(str(kind))
        return Opened(run, contract(), kind)

    def open_engine(bundle, kind, device, images=None):
        if str(kind) not in OFF:
            raise RuntimeError("no compiler\nand a long story")
        return engine(kind)

    monkeypatch.setattr(selection, "torch_engine", lambda bundle, device: engine(PLAIN))
    monkeypatch.setattr(selection, "open_engine", open_engine)
    monkeypatch.setattr(selection, "compiler", lambda: "g++")
    monkeypatch.setattr(selection, "speed_up", lambda plain, short, *_: SPEED[names[-1]])
    monkeypatch.setattr(selection, "LONG", 0.0)
    monkeypatch.setattr(selection, "LONG_ENOUGH_TO_COMPILE", 0.0)
    monkeypatch.setattr(selection, "_timed", lambda run, images: (run(images.numpy()), 10.0))
    return names


def bundle():
    found = made()
    found.recipe.evaluate = SimpleNamespace(tta="none")
    return found


def auto(precision=None, before=None):
    return choose_engine(bundle(), "auto", precision, "cpu", batches([Chips()], 20), before)


def test_auto_takes_the_fastest_that_says_the_same(opened):
    chosen = auto()
    assert chosen.told == "engine: openvino bf16; 3.0 x torch fp32; logits differ by 0.001"
    facts = chosen.facts["measured"]
    assert facts["torch bf16"] == {
        "speed": 9.0,
        "open": pytest.approx(0, abs=1),
        "difference": pytest.approx(0.1),
        "fits": False,
    }
    assert facts["torch bf16, compiled"] == {"failed": "no compiler"}
    assert chosen.facts["asked"] == "auto" and chosen.facts["version"]["openvino"]


def test_what_was_measured_is_measured_once(opened):
    auto()
    opened.clear()
    assert auto().facts["kind"] == "openvino bf16" and opened == ["torch fp32", "openvino bf16"]


def test_an_engine_that_differs_on_these_chips_gives_way(opened, monkeypatch):
    auto()
    monkeypatch.setitem(OFF, "openvino bf16", 1.0)
    assert auto().told.startswith("engine: openvino fp32; 2.0 x torch fp32")


def test_precision_limits_the_choice(opened):
    assert auto("fp32").facts["kind"] == "openvino fp32"
    with pytest.raises(RequestError, match="int8 is not exact"):
        auto("int8")


def test_a_job_that_goes_on_keeps_its_engine(opened):
    assert auto(before="onnx fp32").facts["kind"] == "onnx fp32"
    assert auto(before="torch fp32").facts["kind"] == "torch fp32"


def test_a_short_job_is_not_worth_a_measurement(opened, monkeypatch):
    monkeypatch.setattr(selection, "LONG", 1e6)
    assert auto().told == "engine: torch fp32; about 1000 s of work, too little to look for a faster engine"
    assert opened == ["torch fp32"]


def test_time_to_open_counts(opened, monkeypatch):
    auto()
    facts = selection.measured(bundle(), "cpu")
    facts["openvino bf16"]["open"] = 900.0
    selection.note_measured(bundle(), "cpu", facts)
    assert auto().facts["kind"] == "openvino fp32"


@pytest.mark.parametrize(
    ("asked", "precision", "told"),
    [
        ("tensorrt", None, "neither an engine nor an export"),
        ("torch", "int8", "PyTorch has no int8"),
        ("onnx", "bf16", "ONNX Runtime has no bfloat16"),
        ("onnx", "fp64", "there is no precision fp64"),
        ("/", "fp32", "an export has its precision"),
        ("/", None, "there is no export"),
    ],
)
def test_refused(asked, precision, told):
    with pytest.raises(RequestError, match=told):
        choose_engine(bundle(), asked, precision, "cpu", batches([Chips()], 20))


def test_names():
    assert [str(kind) for kind in (PLAIN, Kind("torch", "bf16", True))] == ["torch fp32", "torch bf16, compiled"]
