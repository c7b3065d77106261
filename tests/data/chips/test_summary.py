"""Class counts, missing classes and pixel statistics."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from rsft.data.chips.builder import build_store
from rsft.data.chips.record import ChipRecord, StoreDescription
from rsft.data.chips.store import (
    ChipStore,
    count_chips,
    find_label_typos,
    list_first_names,
    missing_classes,
    summarize_pixels,
)
from rsft.types import Pixels


def cut(low: int, dtype: str, side: int) -> Pixels:
    return (np.arange(side * (side + 1), dtype=dtype) + low).reshape(side, side + 1, 1)


@pytest.fixture
def store(tmp_path: Path) -> ChipStore:
    labels = tmp_path / "1.txt"
    records = [
        ChipRecord("1", "train", "a", labels, partial(cut, 0, "uint8", 3)),
        ChipRecord("2", "train", "船", labels, partial(cut, 10, "uint8", 5)),
        ChipRecord("3", "test", "a", labels, partial(cut, -9, "float32", 3), extra_columns={"unit": "db"}),
    ]
    return build_store(tmp_path / "out", records, StoreDescription("x", ("a", "船", "never"), "x"))


def test_missing_classes_are_named_if_they_have_chips_elsewhere(store: ChipStore) -> None:
    counts = count_chips(store)
    assert counts["train"] == {"a": 1, "船": 1, "never": 0} and not any(counts["val"].values())
    assert missing_classes(counts) == {"test": ["船"]}
    assert "lacks:\n\n- test: 船\n" in (store.root / "README.md").read_text("utf-8")


def test_empty_counts_have_no_missing_class() -> None:
    assert missing_classes({"train": {}, "test": {"a": 0}}) == {}


@pytest.mark.slow
def test_pixels_by_unit_and_dtype(store: ChipStore) -> None:
    summary = summarize_pixels(store.root, store.table).to_dict("index")
    file_bytes = sum((store.root / path).stat().st_size for path in store.split("train")["path"])
    assert list(summary) == ["db float32", "uint8"]
    sizes = {"chips": 2, "shortest": 3, "longest": 6, "lowest": 0, "highest": 39, "bytes": file_bytes}
    assert summary["uint8"] == sizes | {"mean": pytest.approx((12 * 5.5 + 30 * 24.5) / 42)}
    assert (summary["db float32"]["lowest"], summary["db float32"]["highest"]) == (-9, 2)


@pytest.mark.parametrize(
    ("counts", "pairs"),
    [
        ({"Cargo": 50, "Crago": 1}, [("Crago", "Cargo")]),
        ({"Cargo": 50, "Cargoo": 5, "Crgo": 2, "Caxgo": 1}, [(x, "Cargo") for x in ("Cargoo", "Caxgo", "Crgo")]),
        ({"Cargo": 50, "Crago": 6, "Carog": 50}, []),  # too many chips for a typo
        ({"fishing-boat": 5, "Fishing boat": 9}, [("fishing-boat", "Fishing boat")]),
        ({"T-62": 1, "T-72": 90, "cat": 1, "bat": 90}, []),
        ({"tanker": 90, "tan": 1, "trakner": 1}, []),
        ({}, []),
    ],
)
def test_label_typos(counts: dict[str, int], pairs: list[tuple[str, str]]) -> None:
    assert find_label_typos(counts) == pairs


def test_label_typos_among_many_classes() -> None:
    names = {f"{number:b}".translate(str.maketrans("01", "xy")): 90 for number in range(3000)}
    assert find_label_typos(names) == []


def test_first_names() -> None:
    assert list_first_names(["a", "b", "c"], 2) == "a, b and 1 more" and list_first_names(["a"]) == "a"
