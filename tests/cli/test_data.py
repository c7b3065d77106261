"""Commands of `rsft data` as a user types them."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription

Command = Callable[..., tuple[int, str]]


def read_ramp(low, dtype, side):
    return (np.arange(side * side, dtype=dtype) + low).reshape(side, side, 1)


@pytest.fixture
def root(tmp_path):
    labels = tmp_path / "1.txt"
    extra_columns = {
        "source": "SRSDD",
        "spacing_m": 1.5,
        "mmsi": "9",
        "box": [1.0, 2.5] * 4,
    }
    records = [
        ChipRecord(
            "L1_1",
            "train",
            "渔船",
            labels,
            partial(read_ramp, 0, "uint8", 10),
            extra_columns=extra_columns,
        ),
        ChipRecord(
            "L1_2",
            "train",
            "b",
            labels,
            partial(read_ramp, 100, "uint16", 12),
            extra_columns={"source": "[b]"},
        ),
        ChipRecord(
            "L1_3",
            "test",
            "b",
            labels,
            partial(read_ramp, -9, "float32", 8),
            extra_columns={"unit": "db"},
        ),
    ]
    return build_store(
        tmp_path / "my data", records, StoreDescription("x", ("b", "渔船"), "x")
    ).root


@pytest.fixture
def data(rsft):
    return partial(rsft, "data")


@pytest.mark.slow
def test_show(data, root):
    code, printed = data("show", root)
    assert code == 0 and "3 chips" in printed and "渔船" in printed


def test_stats(data, root):
    code, printed = data("stats", root)
    rows = {
        line.split("  ")[0].strip(): line.split()
        for line in printed.splitlines()
        if line.strip()
    }
    assert code == 0
    assert rows["uint8"][1:6] == ["1", "10-10", "px", "0", "99"]
    assert rows["uint16"][4:7] == ["100", "243", "171.5"]
    assert rows["db float32"][2:7] == ["1", "8-8", "px", "-9", "54"]
