"""Whole groups are dealt, near the shares."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rsft.prepare.splits import split_groups

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def test_every_class_comes_near_its_share() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 100, 3000).tolist()
    labels = rng.choice(["a", "b", "c"], 3000, p=[0.8, 0.15, 0.05]).tolist()
    dealt = split_groups(labels, groups, SHARES, seed=0)
    counts = Counter((dealt[group], label) for group, label in zip(groups, labels, strict=True))
    for label in "abc":
        for split, share in SHARES.items():
            assert counts[split, label] / labels.count(label) == pytest.approx(share, abs=0.03)
    assert dealt == split_groups(labels, groups, SHARES, seed=0)
    assert dealt != split_groups(labels, groups, SHARES, seed=1)


def test_no_split_stays_empty_while_there_are_groups() -> None:
    dealt = split_groups(["a"] * 103, [0] * 101 + [1, 2], SHARES, seed=0)
    assert set(dealt.values()) == {"train", "val", "test"} and dealt[0] == "train"


def test_a_share_of_zero_gets_nothing() -> None:
    assert set(split_groups(["a"] * 5, range(5), {"train": 1.0, "val": 0.0}, seed=0).values()) == {"train"}
