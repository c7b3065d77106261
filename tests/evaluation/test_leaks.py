"""Chips of a split that a model has seen, by content, group and vessel."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.evaluation.leaks import count_leaks
from rsft.evaluation.schema import Leaks


def build(root, *rows):
    """Write a store of rows: split, value of the pixels, group and vessel."""
    records = []
    for number, (split, value, group, vessel) in enumerate(rows):
        pixels = np.arange(value, value + 16, dtype=np.uint8).reshape(4, 4, 1)
        columns = {"group_key": group, "mmsi": vessel}
        records.append(
            ChipRecord(
                f"{number}",
                split,
                "ab"[number % 2],
                root.parent / "labels.txt",
                lambda pixels=pixels: pixels,
                extra_columns={key: x for key, x in columns.items() if x is not None},
            )
        )
    return build_store(root, records, StoreDescription("x", ("a", "b"), "x"))


ROWS = [
    ("train", 1, "scene 1", "111"),
    ("train", 2, "", None),
    ("val", 1, "scene 2", "222"),
    ("val", 3, "scene 1", None),
    ("test", 3, "scene 2", "222"),
    ("test", 4, "", "333"),
    ("test", 5, "scene 9", "111"),
]


@pytest.fixture
def store(tmp_path):
    return build(tmp_path / "store", *ROWS)


@pytest.mark.parametrize(
    ("split", "leaks"),
    [
        ("test", Leaks(chips=2)),
        ("val", Leaks(chips=2)),
        ("train", Leaks(chips=0)),
    ],
)
def test_one_store(store, split, leaks):
    assert count_leaks(store, store, split) == leaks


def test_chips_of_another_store_meet_those_of_the_training(store, tmp_path):
    other = build(
        tmp_path / "other", ("test", 1, "scene 7", None), ("val", 9, "", "111")
    )
    assert count_leaks(other, store, "test") == Leaks(chips=1)
    # the other chips of the evaluated split were not seen
    assert count_leaks(other, store, "val").chips == 1


@pytest.mark.parametrize("kind", ["object", "category"])
def test_test_chips_leak_from_validation_chips_too(kind):
    rows = [
        ("train", "a", None),
        ("val", "b", "1"),
        ("test", "b", None),
        ("test", "c", "1"),
        ("test", "d", ""),
    ]
    table = (
        pd.DataFrame(rows, columns=["split", "sha256", "mmsi"])
        .assign(group_key="")
        .astype(kind)
    )
    store = SimpleNamespace(
        read_parts=lambda columns: [table[columns][:2], table[columns][2:]]
    )
    assert count_leaks(store, store, "test") == Leaks(chips=2)
    assert count_leaks(store, store, "val").chips == 0
