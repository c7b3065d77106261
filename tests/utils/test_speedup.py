"""A speedup is a ratio of durations."""

import time

import pytest

from rsft.utils.speedup import measure_speedup


@pytest.mark.slow
def test_speedup_is_a_ratio_of_durations():
    assert measure_speedup(
        lambda: time.sleep(0.02), lambda: time.sleep(0.005)
    ) == pytest.approx(4, rel=0.5)
