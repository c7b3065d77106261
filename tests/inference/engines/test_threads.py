"""The number of threads of engines without PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from rsft.inference.engines.base import engine_threads

PROGRAM = """
import sys
from rsft.inference.engines.base import engine_threads

print("torch" in sys.modules, engine_threads())
"""


def test_it_is_that_of_pytorch_if_it_is_imported() -> None:
    assert engine_threads() == torch.get_num_threads()


@pytest.mark.parametrize(("variable", "expected"), [("3", 3), ("5,2", 5), ("0", 1)])
def test_otherwise_the_variable_of_openmp_decides(
    monkeypatch: pytest.MonkeyPatch, variable: str, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    printed = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert printed.split() == ["False", str(expected)]


def test_without_the_variable_there_is_a_thread_per_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    printed = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert 1 <= int(printed.split()[1]) <= 1024
