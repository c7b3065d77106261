"""Group splits: whole groups, near the shares, with every class in every split if possible."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rsft.data.datasets.common import split_groups

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


def test_split_with_share_zero_is_empty() -> None:
    assert set(split_groups(["a"] * 5, range(5), {"train": 1.0, "val": 0.0}, seed=0).values()) == {"train"}


SCENES = {  # ships of the five real scenes of OpenSARShip: Cargo, Tanker, Other
    "0131": (39, 10, 23),
    "0518": (15, 9, 1),
    "0606": (9, 0, 0),
    "0823": (10, 2, 0),
    "0902": (10, 1, 2),
}


@pytest.mark.parametrize("seed", range(4))
def test_a_class_in_as_many_groups_as_splits_is_in_all_of_them(seed: int) -> None:
    rows = [
        (name, scene) for scene, ships in SCENES.items() for name, n in zip("cto", ships, strict=True) for _ in range(n)
    ]
    labels, groups = zip(*rows, strict=True)
    dealt = split_groups(labels, groups, SHARES, seed)
    assert Counter((dealt[scene], name) for name, scene in rows) == {
        **{("train", "c"): 58, ("train", "t"): 12, ("train", "o"): 23},
        **{("val", "c"): 10, ("val", "t"): 1, ("val", "o"): 2},
        **{("test", "c"): 15, ("test", "t"): 9, ("test", "o"): 1},
    }


def test_class_in_fewer_groups_than_splits_is_in_one_split_per_group() -> None:
    groups = [0, 1, 2, 3, 4, 5] * 2
    labels = ["common"] * 6 + ["rare", "rare", "single", "common", "common", "common"]
    dealt = split_groups(labels, groups, SHARES, seed=0)
    assert dealt[0] != dealt[1] and "train" in (dealt[0], dealt[1]) and dealt[2] == "train"
    assert set(dealt.values()) == set(SHARES)


def test_rare_classes_leave_no_split_empty() -> None:
    dealt = split_groups(["a", "a", "b", "b"], range(4), SHARES, seed=0)
    assert set(dealt.values()) == set(SHARES)


def test_no_samples_give_no_groups() -> None:
    assert split_groups([], [], SHARES, seed=0) == {}
