"""Names of classes: those without chips, typos, and lists of names in messages."""

import pytest

from rsft.data.chips.class_names import (
    find_label_typos,
    list_first_names,
    missing_classes,
)


def test_empty_counts_have_no_missing_class():
    assert missing_classes({"train": {}, "test": {"a": 0}}) == {}


@pytest.mark.parametrize(
    ("counts", "pairs"),
    [
        ({"Cargo": 50, "Crago": 1}, [("Crago", "Cargo")]),
        (
            {"Cargo": 50, "Cargoo": 5, "Crgo": 2, "Caxgo": 1},
            [(x, "Cargo") for x in ("Cargoo", "Caxgo", "Crgo")],
        ),
        ({"Cargo": 50, "Crago": 6, "Carog": 50}, []),  # too many chips for a typo
        ({"fishing-boat": 5, "Fishing boat": 9}, [("fishing-boat", "Fishing boat")]),
        ({"c\u0430rgo": 5, "cargo": 9}, [("c\u0430rgo", "cargo")]),  # Cyrillic
        ({"T-62": 1, "T-72": 90, "cat": 1, "bat": 90}, []),
        ({"tanker": 90, "tan": 1, "trakner": 1}, []),
        ({}, []),
    ],
)
def test_label_typos(counts, pairs):
    assert find_label_typos(counts) == pairs


def test_label_typos_among_many_classes():
    names = {
        f"{number:b}".translate(str.maketrans("01", "xy")): 90 for number in range(3000)
    }
    assert find_label_typos(names) == []


def test_first_names():
    assert (
        list_first_names(["a", "b", "c"], 2) == "a, b and 1 more"
        and list_first_names(["a"]) == "a"
    )
