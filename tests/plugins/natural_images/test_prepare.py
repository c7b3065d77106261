"""CIFAR100-LT: long tail, validation split, archives."""

import numpy as np
import pandas as pd
import pytest

from rsft.data.chips.record import long_tail_counts
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.plugins.natural_images.cifar100 import CLASSES, SPLIT_SIZE
from rsft.plugins.natural_images.prepare import prepare_cifar100
from tests.plugins.natural_images.cifar_data import write_folders, write_pickles

SIZES = {"train": 16, "test": 4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Sixteen training and four test images of each of three classes."""
    counts = {
        f"{split}/{label}": count
        for split, count in SIZES.items()
        for label in ("apple", "bee", "train")
    }
    return write_folders(tmp_path_factory.mktemp("cifar"), counts)


def counts(root, split):
    table = pd.read_parquet(root / "manifest.parquet")
    return table[table["split"] == split]["class"].value_counts().sort_index().to_dict()


def test_the_published_count_at_a_ratio_of_100():
    profile = long_tail_counts(dict.fromkeys(CLASSES, SPLIT_SIZE["train"] // 100), 100)
    assert sum(profile.values()) == 10_847 and (profile["apple"], profile["worm"]) == (
        500,
        5,
    )


@pytest.mark.slow
def test_training_split_is_long_tailed_and_validation_is_taken_from_test(
    folders, tmp_path
):
    store = prepare_cifar100(folders, tmp_path / "out", imbalance=16, val=0.25)
    assert counts(store.root, "train") == {"apple": 16, "bee": 4, "train": 1}
    assert counts(store.root, "val") == {"apple": 1, "bee": 1, "train": 1}
    assert sum(counts(store.root, "test").values()) == 9
    assert (
        store.skipped == {"training image, to reach an imbalance of 16": 27}
        and store.classes == CLASSES
    )


@pytest.mark.slow
def test_an_existing_long_tail_is_unchanged_and_the_choice_is_always_the_same(
    folders, tmp_path
):
    stores = [
        prepare_cifar100(folders, tmp_path / name, imbalance=16, val=0)
        for name in ("1", "2")
    ]
    first, again = [(store.root / "manifest.parquet").read_bytes() for store in stores]
    assert first == again
    second = prepare_cifar100(
        stores[0].root / "chips", tmp_path / "4", imbalance=16, val=0
    )
    assert second.table["sha256"].tolist() == stores[0].table["sha256"].tolist()


def test_a_faulty_archive_leaves_nothing(tmp_path):
    (tmp_path / "cifar.tar").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"not a \.zip"):
        prepare_cifar100(tmp_path / "cifar.tar", tmp_path / "data/out")
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.slow
def test_published_files_become_png(tmp_path, monkeypatch):
    src = write_pickles(tmp_path / "src", monkeypatch, train=40, test=20)
    store = prepare_cifar100(src, tmp_path / "out", imbalance=1, val=0)
    last = store.table.iloc[-1]
    assert (len(store.table), last["path"]) == (60, "chips/train/keyboard/00039.png")
    pixels = np.random.default_rng(40).integers(0, 256, (40, 3072), dtype=np.uint8)[39]
    assert np.array_equal(
        read_chip(store.root / last["path"]).transpose(2, 0, 1).ravel(), pixels
    )


@pytest.mark.parametrize(("argument", "value"), [("imbalance", 0.5), ("val", 1.0)])
def test_arguments_out_of_range_are_refused(folders, tmp_path, argument, value):
    with pytest.raises(RequestError) as caught:
        prepare_cifar100(folders, tmp_path / "out", **{argument: value})
    assert caught.value.location == f"--{argument}"
