"""A speedup is a ratio of durations."""

import time

import pytest
import torch

from rsft.utils.speedup import measure_speedup, operations_per_second, product_speedup


@pytest.mark.slow
def test_speedup_is_a_ratio_of_durations():
    assert measure_speedup(
        lambda: time.sleep(0.02), lambda: time.sleep(0.005)
    ) == pytest.approx(4, rel=0.5)


@pytest.mark.slow
def test_a_product_in_double_precision_is_not_faster():
    assert 0 < product_speedup(torch.device("cpu"), torch.float64) < 1.3


def test_operations_per_second_are_those_of_a_processor():
    assert 1e8 < operations_per_second(torch.device("cpu"), torch.float32) < 1e14
