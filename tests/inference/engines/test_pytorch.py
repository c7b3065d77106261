"""PyTorch in bfloat16; the number of threads of engines."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rsft.inference.engines.base import EngineSpec, engine_threads
from rsft.inference.predict.engine import load_engine
from rsft.models.bundle.bundle import Bundle

RNG = np.random.default_rng(0)


@pytest.mark.slow
def test_bfloat16_is_near_float32(run):
    bundle = Bundle.load(run)
    loaded = load_engine(bundle, Path(), "torch", "bf16")
    assert loaded.spec == EngineSpec("torch", "bf16")
    assert str(loaded.spec) == "torch bf16"
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    expected = load_engine(bundle, Path(), "torch").infer(images).logits
    rounded = loaded.infer(images).logits
    np.testing.assert_allclose(rounded, expected, atol=1e-2 * abs(expected).max())
    assert (rounded != expected).any()


@pytest.mark.slow
def test_bytes_and_normalized_images_have_the_same_outputs(run):
    bundle = Bundle.load(run)
    loaded = load_engine(bundle, Path(), "torch")
    side = loaded.contract.size
    images = list(RNG.integers(0, 256, (3, side, side, 1), np.uint8).repeat(3, axis=3))
    inputs = loaded.make_inputs(images)
    assert inputs.shape == (3, 3, side, side) and inputs.dtype == np.float32
    stacked = loaded._replace(takes_bytes=True).make_inputs(images)
    assert stacked.shape == (3, side, side, 1) and stacked.dtype == np.uint8
    np.testing.assert_array_equal(
        loaded.infer(stacked).logits, loaded.infer(inputs).logits
    )


def test_threads_are_those_of_pytorch():
    assert engine_threads() == torch.get_num_threads()


@pytest.mark.parametrize(
    ("variable", "most"), [("3", 3), ("5,2", 5), ("0", 1), (None, 1024)]
)
def test_threads_without_pytorch(monkeypatch, variable, most):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    program = (
        "import sys; from rsft.inference.engines.base import engine_threads as n;"
        " print(n(), *sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    threads, *modules = printed.split()
    assert "torch" not in modules and (
        1 <= int(threads) <= most if variable is None else int(threads) == most
    )
