"""PyTorch: bfloat16 with and without a compiler, padded batches; the number of threads
of engines."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from rsft.inference.engines import pytorch
from rsft.inference.engines.base import EngineSpec, engine_threads
from rsft.inference.predict.engine import load_engine
from rsft.models.bundle.bundle import Bundle

COMPILED = EngineSpec("torch", "bf16", compiled=True)


def check_bfloat16(bundle, loaded):
    """Check that the logits of an engine are near those of PyTorch in float32."""
    images = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    expected = load_engine(bundle, Path(), "torch").infer(images).logits
    np.testing.assert_allclose(
        loaded.infer(images).logits, expected, atol=1e-2 * abs(expected).max()
    )


@pytest.mark.slow
def test_compiled_bfloat16_is_near_float32(run):
    if pytorch.find_cxx_compiler() is None:
        pytest.skip("no C++ compiler is installed")
    bundle = Bundle.load(run)
    loaded = load_engine(bundle, Path(), "torch", "bf16")
    assert (loaded.spec, loaded.note) == (COMPILED, "")
    check_bfloat16(bundle, loaded)


@pytest.mark.slow
def test_bfloat16_without_a_compiler_is_near_float32_and_says_so(run, monkeypatch):
    monkeypatch.setattr(pytorch, "find_cxx_compiler", lambda: None)
    bundle = Bundle.load(run)
    loaded = load_engine(bundle, Path(), "torch", "bf16")
    assert loaded.spec == EngineSpec("torch", "bf16")
    assert loaded.note == "not compiled: no C++ compiler is installed"
    check_bfloat16(bundle, loaded)


def test_a_fault_of_the_engine_is_not_taken_for_one_of_the_compiler(run, monkeypatch):
    def fail(bundle):
        raise TypeError("a fault of rsft")

    # a fault that no real compiler has
    monkeypatch.setattr(pytorch, "_compile", fail)
    with pytest.raises(TypeError, match="a fault of rsft"):
        pytorch.TorchEngine().load(Bundle.load(run), COMPILED, "cpu")


def test_threads_of_the_pool_use_one_core_and_others_use_all():
    before = engine_threads()
    assert before == torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        # its threads are seen nowhere else
        with pytorch._make_single_core_pool() as pool, ThreadPoolExecutor(1) as later:
            assert (
                list(pool.map(lambda _: torch.get_num_threads(), range(9))) == [1] * 9
            )
            assert (engine_threads(), later.submit(torch.get_num_threads).result()) == (
                3,
                3,
            )
    finally:
        torch.set_num_threads(before)


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


def test_bfloat16_is_compiled_where_it_can_be():
    engine = pytorch.TorchEngine()
    assert str(engine.spec("fp32")) == "torch fp32"
    assert str(engine.spec("bf16")) == str(COMPILED) == "torch bf16, compiled"
