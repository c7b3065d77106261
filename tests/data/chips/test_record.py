"""Groups, profiles, subsets and splits of long-tailed class distributions."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsft.data.chips.record import (
    NO_CLASS,
    NOT_A_TARGET,
    UNSURE,
    describe_groups,
    group_by_count,
    head_limit,
    long_tail_counts,
    resolve_label,
    sample_per_class,
    stratified_split,
)
from tests.helpers.messages import mentions


def test_counts_at_the_bounds_are_medium():
    counts = {"a": 101, "b": 100, "c": 20, "d": 19, "e": 0}
    assert group_by_count(counts) == {
        "head": ["a"],
        "medium": ["b", "c"],
        "tail": ["d", "e"],
    }


@pytest.mark.parametrize(
    ("counts", "head", "medium", "tail"),
    [
        ({"a": 24, "b": 13, "c": 12, "d": 4}, ["a", "b"], [], ["c", "d"]),
        ({"a": 100, "b": 51, "c": 50, "d": 20, "e": 19}, ["a", "b"], ["c", "d"], ["e"]),
        ({"a": 3, "b": 2, "c": 1}, ["a", "b"], [], ["c"]),
        # all have more than half of the largest class: no long tail
        (
            {"a": 30, "b": 16},
            [],
            ["a"],
            ["b"],
        ),
        # a class without chips makes no long tail
        (
            {"a": 15, "b": 15, "c": 0},
            [],
            [],
            ["a", "b", "c"],
        ),
        ({"a": 0, "b": 0}, [], [], ["a", "b"]),
        ({}, [], [], []),
        ({"a": 101, "b": 60, "c": 2}, ["a"], ["b"], ["c"]),
    ],
)
def test_a_long_tail_of_small_classes_has_a_head(counts, head, medium, tail):
    assert group_by_count(counts) == {"head": head, "medium": medium, "tail": tail}


def test_the_rule_of_the_groups_is_named():
    counts = {"a": 60, "b": 30, "c": 4}
    by_share = describe_groups(group_by_count(counts), counts)
    assert re.search(
        mentions("more than 30 training chips", "fewer than 20"),
        by_share,
    )
    earlier = {"head": [], "medium": ["a", "b"], "tail": ["c"]}  # of rsft 0.2
    assert describe_groups(earlier, counts).startswith(
        "head: classes with more than 100 training chips"
    )
    assert "of the data set" in describe_groups(
        {"head": ["c"], "tail": ["a", "b"]}, counts
    )


def test_profile_of_cifar100_ir100_has_10847_images():
    counts = long_tail_counts({str(index): 500 for index in range(100)}, 100)
    assert sum(counts.values()) == 10_847
    assert (counts["0"], counts["99"]) == (500, 5)


def test_profile_ranks_by_count_then_by_order_and_is_limited_by_the_available_chips():
    counts = long_tail_counts({"a": 10, "b": 100, "c": 100, "d": 99}, 4)
    assert counts == {"a": 10, "b": 100, "c": 62, "d": 39}


def test_profile_gives_every_class_one_chip():
    assert long_tail_counts({"a": 5, "b": 5}, 100) == {"a": 5, "b": 1}
    assert long_tail_counts({"a": 5}, 100) == {"a": 5}


def test_subset_follows_the_seed():
    labels = ["a"] * 30 + ["b"] * 30
    first = sample_per_class(labels, {"a": 10, "b": 3}, seed=1)
    np.testing.assert_array_equal(
        first, sample_per_class(labels, {"a": 10, "b": 3}, seed=1)
    )
    assert not np.array_equal(
        first, sample_per_class(labels, {"a": 10, "b": 3}, seed=2)
    )
    assert (first < 30).sum() == 10 and len(np.unique(first)) == 13


@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 3),
)
def test_split_has_every_class_of_two_or_more_on_both_sides(labels, share, seed):
    first, second = stratified_split(labels, share, seed)
    assert sorted([*first, *second]) == list(range(len(labels)))
    for label in set(labels):
        count = labels.count(label)
        taken = sum(labels[index] == label for index in second)
        assert (taken == 0) if count == 1 else (1 <= taken <= count - 1)
        assert abs(taken - share * count) <= 1


def test_split_follows_the_seed():
    labels = ["a"] * 50
    assert not np.array_equal(
        stratified_split(labels, 0.5, 0)[1], stratified_split(labels, 0.5, 1)[1]
    )
    np.testing.assert_array_equal(
        stratified_split(labels, 0.5, 0)[1], stratified_split(labels, 0.5, 0)[1]
    )


@pytest.mark.parametrize("ratio", [1, 10, 100])
def test_smallest_class_has_one_ratio_th_of_the_largest(ratio):
    counts = long_tail_counts(dict.fromkeys("abcde", 1000), ratio)
    assert counts["e"] == pytest.approx(1000 / ratio, abs=1)


def test_a_verdict_gives_a_label_or_the_reason_for_none():
    assert resolve_label("cargo", None) == ("cargo", "")
    assert resolve_label("", "clutter") == ("", NO_CLASS)
    assert resolve_label(UNSURE, "clutter") == ("", UNSURE)
    assert resolve_label(NOT_A_TARGET, None) == ("", NOT_A_TARGET)
    assert resolve_label(NOT_A_TARGET, "clutter") == ("clutter", "")


@pytest.mark.parametrize(
    ("counts", "limit"),
    [
        ({"a": 500, "b": 5}, 100),
        ({"a": 100, "b": 50}, 50),
        ({"a": 100, "b": 51}, 100),
        ({"a": 101, "b": 5}, 100),
        ({"a": 40, "b": 20, "c": 0}, 20),
        ({"a": 40, "c": 0}, 100),
        ({}, 100),
    ],
)
def test_the_head_of_a_long_tail_begins_at_half_of_its_largest_class(counts, limit):
    assert head_limit(counts) == limit
