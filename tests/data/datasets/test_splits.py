"""Held-out samples, long tails and splits of whole groups."""

from collections import Counter

import pytest

from rsft.data.datasets.formats.labeled_files import LabeledFile
from rsft.data.datasets.splits import (
    check_val_share,
    hold_out,
    split_off_test,
    subsample_long_tail,
)
from rsft.errors import RequestError

FILES = [
    LabeledFile(f"{label}{index}", label, "train")
    for label in "ab"
    for index in range(20)
]


def test_share_of_each_class_is_held_out():
    remaining, held_out = hold_out(FILES, 0.25, seed=0)
    counts = Counter((file.label, file.split) for file in remaining + held_out)
    assert counts == {
        (label, split): count
        for label in "ab"
        for split, count in (("train", 15), ("val", 5))
    }
    assert {file.path for file in remaining + held_out} == {file.path for file in FILES}


def test_tail_follows_the_order_of_the_classes():
    assert Counter(
        file.label for file in subsample_long_tail(FILES, ("b", "a"), 4, seed=0)
    ) == {"b": 20, "a": 5}


def test_empty_input_gives_empty_output():
    assert (
        hold_out([], 0.5, seed=0) == ([], [])
        and subsample_long_tail([], ("a",), 4, seed=0) == []
    )


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_invalid_share_is_refused(share):
    check_val_share(0)
    check_val_share(0.99)
    with pytest.raises(RequestError, match="--val"):
        check_val_share(share)


@pytest.mark.parametrize(
    ("share", "tests"),
    [(0, []), (0.5, [2, 4, 6]), (0.34, [3]), (1, [1, 2, 3, 4, 5, 6])],
)
def test_a_share_of_the_validation_is_for_the_test(share, tests):
    labels = ["a", "a", "a", "a", "a", "b", "b"]
    files = [LabeledFile(str(n), label, "val") for n, label in enumerate(labels)]
    files[0] = LabeledFile("0", "a", "train")
    divided = split_off_test(files, share)
    assert [n for n, file in enumerate(divided) if file.split == "test"] == tests
    assert divided[0] == files[0] and len(divided) == len(files)
