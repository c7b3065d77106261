"""The number type for training is chosen by measuring."""

import time

import pytest
import torch

from rsft.utils import precision_benchmark
from rsft.utils.precision_benchmark import measure_speedup, select_precision


@pytest.mark.parametrize(
    ("speedups", "expected"),
    [
        ({"bf16": 1.1}, "fp32"),
        ({"bf16": 1.3}, "bf16"),
        ({"bf16": 1.3, "fp16": 1.4}, "bf16"),
        ({"bf16": 0.5, "fp16": 1.4}, "fp16"),
        ({"bf16": 1.3, "fp16": 3.0}, "fp16"),
    ],
)
def test_fastest_precision(speedups, expected, monkeypatch):
    values = iter(speedups.values())
    monkeypatch.setattr(precision_benchmark, "training_step_speedup", lambda *_: next(values))
    device = torch.device("cuda" if "fp16" in speedups else "cpu")
    assert select_precision(device) == (expected, speedups)


@pytest.mark.slow
def test_speedup_is_a_ratio_of_durations():
    assert measure_speedup(lambda: time.sleep(0.02), lambda: time.sleep(0.005)) == pytest.approx(4, rel=0.5)


@pytest.mark.slow
def test_this_cpu():
    precision, speedups = select_precision(torch.device("cpu"))
    assert list(speedups) == ["bf16"] and precision in ("fp32", "bf16")
