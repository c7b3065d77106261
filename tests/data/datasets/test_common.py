"""What data sets share: held-out samples, long tails, splits of whole groups, gray
chips and crops of SRSDD ships."""

import os
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from torchgeo.datasets import DatasetNotFoundError

from rsft.data.datasets import common
from rsft.data.datasets._label_files import LabeledFile
from rsft.data.datasets.common import (
    crop_srsdd_ship,
    hold_out,
    read_gray_chip,
    split_groups,
    subsample_long_tail,
)
from rsft.data.datasets.srsdd import SRSDD
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from tests.data.datasets.srsdd.data import write_srsdd

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
    with pytest.raises(RequestError, match="--val"):
        common.check_val_share(share)


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


@pytest.fixture
def ships(tmp_path):
    return SRSDD(
        write_srsdd(tmp_path, {7: ["Fishing", "Dredger", "ore-oil"]}), split="all"
    ).ships


def test_ships_of_one_image_have_it_decoded_once_unless_it_changes(ships, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        common, "read_chip", lambda path: (decoded.append(path), read_chip(path))[1]
    )
    first = [crop_srsdd_ship(ship) for ship in ships]
    assert decoded == [ships[0].image] and first[0].shape == (64, 64, 1)
    Image.fromarray(255 - np.asarray(Image.open(ships[0].image))).save(ships[0].image)
    os.utime(ships[0].image, ns=(0, 1))
    np.testing.assert_array_equal(crop_srsdd_ship(ships[0]), 255 - first[0])


def test_a_box_outside_the_image_is_an_error(ships):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(ships[0].image)
    os.utime(ships[0].image, ns=(0, 2))
    with pytest.raises(DataError, match="outside the image"):
        crop_srsdd_ship(ships[0])


def test_three_equal_bands_are_one_and_others_are_refused(tmp_path):
    path = tmp_path / "chip.png"
    pixels = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 3, axis=2)
    Image.fromarray(pixels).save(path)
    np.testing.assert_array_equal(read_gray_chip(path), pixels[..., :1])
    pixels[0, 0] = (1, 2, 3)
    Image.fromarray(pixels).save(path)
    with pytest.raises(DataError, match="the 3 bands differ"):
        read_gray_chip(path)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            PermissionError(13, "Permission denied", "a.txt"),
            DataError,
            "Ships cannot be read: Permission denied",
        ),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
            DataError,
            "Ships is not UTF-8 text",
        ),
        (ValueError("row 3 has no class"), DataError, "row 3 has no class"),
        (
            DatasetNotFoundError(SimpleNamespace(root="x")),
            RequestError,
            "the folder does not contain Ships",
        ),
    ],
)
def test_errors_of_data_sets_name_the_data_set(error, kind, words):
    with (
        pytest.raises(kind, match=re.escape(words)),
        common.translate_dataset_errors("Ships", Path("x"), "copy it"),
    ):
        raise error
