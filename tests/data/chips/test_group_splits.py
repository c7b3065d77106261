"""Groups of samples are assigned to splits whole."""

from collections import Counter

import numpy as np
import pytest

from rsft.data.chips.group_splits import find_first_connected, split_groups

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def test_every_class_comes_near_its_share():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 100, 3000).tolist()
    labels = rng.choice(["a", "b", "c"], 3000, p=[0.8, 0.15, 0.05]).tolist()
    dealt = split_groups(labels, groups, SHARES, seed=0)
    counts = Counter(
        (dealt[group], label) for group, label in zip(groups, labels, strict=True)
    )
    for label in "abc":
        for split, share in SHARES.items():
            assert counts[split, label] / labels.count(label) == pytest.approx(
                share, abs=0.03
            )
    assert dealt == split_groups(labels, groups, SHARES, seed=0)
    assert dealt != split_groups(labels, groups, SHARES, seed=1)


def test_no_split_stays_empty_while_there_are_groups():
    dealt = split_groups(["a"] * 103, [0] * 101 + [1, 2], SHARES, seed=0)
    assert set(dealt.values()) == {"train", "val", "test"} and dealt[0] == "train"


def test_split_with_share_zero_is_empty():
    assert set(
        split_groups(["a"] * 5, range(5), {"train": 1.0, "val": 0.0}, seed=0).values()
    ) == {"train"}


SCENES = {
    "0131": (39, 10, 23),
    "0518": (15, 9, 1),
    "0606": (9, 0, 0),
    "0823": (10, 2, 0),
    "0902": (10, 1, 2),
}
"""Ships of the five real scenes of OpenSARShip: Cargo, Tanker, Other."""


@pytest.mark.parametrize("seed", range(4))
def test_a_class_in_as_many_groups_as_splits_is_in_all_of_them(seed):
    counts = [
        (name, scene, n)
        for scene, ships in SCENES.items()
        for name, n in zip("cto", ships, strict=True)
    ]
    rows = [(name, scene) for name, scene, count in counts for _ in range(count)]
    labels, groups = zip(*rows, strict=True)
    dealt = split_groups(labels, groups, SHARES, seed)
    expected = {"train": (58, 12, 23), "val": (10, 1, 2), "test": (15, 9, 1)}
    result = Counter((dealt[scene], name) for name, scene in rows)
    assert {
        split: tuple(result[split, name] for name in "cto") for split in SHARES
    } == expected


def test_class_in_fewer_groups_than_splits_is_in_one_split_per_group():
    groups = [0, 1, 2, 3, 4, 5] * 2
    labels = ["common"] * 6 + ["rare", "rare", "single", "common", "common", "common"]
    dealt = split_groups(labels, groups, SHARES, seed=0)
    assert (
        dealt[0] != dealt[1] and "train" in (dealt[0], dealt[1]) and dealt[2] == "train"
    )
    assert set(dealt.values()) == set(SHARES)


def test_rare_classes_leave_no_split_empty():
    dealt = split_groups(["a", "a", "b", "b"], range(4), SHARES, seed=0)
    assert set(dealt.values()) == set(SHARES)


def test_no_samples_give_no_groups():
    assert split_groups([], [], SHARES, seed=0) == {}


def test_samples_are_connected_through_others():
    keys = [(0, "a"), (1, "b"), (2, "c"), (3, "b"), (3, "a"), (4, ("c", 1))]
    assert find_first_connected(6, keys) == [0, 0, 2, 0, 4, 5]
    assert find_first_connected(0, []) == []


def test_no_sample_has_no_split():
    assert split_groups([], [], SHARES, seed=0) == {}
