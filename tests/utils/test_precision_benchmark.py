"""The number type for training is chosen by measuring."""

import os
import platform
import subprocess
import sys
import time

import pytest
import torch

from rsft.utils import precision_benchmark
from rsft.utils.precision_benchmark import (
    fastest_precision,
    matmul_speedup,
    measure_speedup,
    measure_speedups,
    training_step_speedup,
)


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
def test_fastest_precision(speedups, expected):
    assert fastest_precision(speedups) == expected


def test_speedups_have_three_digits(monkeypatch):
    monkeypatch.setattr(
        precision_benchmark, "training_step_speedup", lambda device, dtype: 1 / 216
    )
    assert measure_speedups(torch.device("cpu"), ["bf16"]) == {"bf16": 0.00463}


@pytest.mark.slow
def test_speedup_is_a_ratio_of_durations():
    assert measure_speedup(
        lambda: time.sleep(0.02), lambda: time.sleep(0.005)
    ) == pytest.approx(4, rel=0.5)


@pytest.mark.parametrize(("probe", "expected"), [(0.05, [0.05]), (0.3, [0.3, 2.5])])
@pytest.mark.parametrize("measure", [training_step_speedup, matmul_speedup])
def test_much_slower_precision_is_measured_with_few_tokens_only(
    monkeypatch, measure, probe, expected
):
    speedups = iter([probe, 2.5])
    measured = []

    def measure_pair(baseline, candidate, repeats=9):
        baseline(), candidate()
        measured.append(next(speedups))
        return measured[-1]

    monkeypatch.setattr(precision_benchmark, "measure_speedup", measure_pair)
    assert measure(torch.device("cpu"), torch.bfloat16) == expected[-1]
    assert measured == expected


@pytest.mark.slow
def test_this_cpu():
    speedups = measure_speedups(torch.device("cpu"), ["bf16"])
    assert list(speedups) == ["bf16"] and fastest_precision(speedups) in (
        "fp32",
        "bf16",
    )


MEASURE = """
import time, torch
from rsft.utils.precision_benchmark import measure_speedups
start = time.process_time()
speedup = measure_speedups(torch.device("cpu"), ["bf16"])["bf16"]
print(speedup, time.process_time() - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the limit is one of oneDNN on x86"
)
def test_emulated_bfloat16_is_measured_in_seconds():
    """Without instructions for bfloat16, one product of a ViT-L takes half a minute."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", MEASURE]
    output = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    speedup, seconds = map(float, output.split())
    assert speedup < 0.25 and seconds < 10
