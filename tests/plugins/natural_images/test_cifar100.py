"""CIFAR-100 as published and as folders, in miniature."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rsft.data.chips.record import long_tail_counts
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.plugins.natural_images.cifar100 import CIFAR100, CLASSES, PICKLES
from rsft.utils.archives import extract_archive
from tests.plugins.natural_images.cifar_data import dump, write_folders, write_pickles


class Trap:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_there_are_a_hundred_classes():
    assert len(CLASSES) == len(set(CLASSES)) == 100 and list(CLASSES) == sorted(CLASSES)


def test_published_files_are_read_through_torchvision(tmp_path, monkeypatch):
    source = CIFAR100(write_pickles(tmp_path / "a/b", monkeypatch).parent)
    assert len(source.images) == 300
    image = source.images[299]
    assert (image.label, image.split, image.line) == (
        "worm",
        "test",
        100,
    ) and image.read_pixels is not None
    assert image.read_pixels().shape == (32, 32, 3)
    raw = np.random.default_rng(100).integers(0, 256, (100, 3072), dtype=np.uint8)[99]
    assert np.array_equal(image.read_pixels().transpose(2, 0, 1).ravel(), raw)


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_an_altered_pickle_is_never_loaded(tmp_path, monkeypatch, name):
    root = write_pickles(tmp_path, monkeypatch)
    dump(root / PICKLES / name, Trap(tmp_path / "sprung"))
    with pytest.raises(DataError, match="incomplete or altered"):
        CIFAR100(root)
    assert not (tmp_path / "sprung").exists()


def test_folders_are_read_and_others_counted(tmp_path):
    counts = {"train/train": 2, "train/apple": 1, "test/apple": 1, "train/ship": 3}
    source = CIFAR100(write_folders(tmp_path, counts))
    assert source.skipped == {"image in a folder that is not a class of CIFAR-100": 3}
    expected = [
        ("apple", "train"),
        ("train", "train"),
        ("train", "train"),
        ("apple", "test"),
    ]
    assert [(image.label, image.split) for image in source.images] == expected


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(RequestError, match="does not contain CIFAR-100"):
        CIFAR100(tmp_path)
    with pytest.raises(RequestError, match="name of a CIFAR-100 class"):
        CIFAR100(write_folders(tmp_path, {"train/ship": 1, "test/ship": 1}))


@pytest.mark.slow
@pytest.mark.realdata
def test_shared_archive_has_the_published_profile(shared, tmp_path):
    source = CIFAR100(extract_archive(shared("cifar100_lt.tar"), tmp_path / "cifar"))
    label_counts = Counter(
        image.label for image in source.images if image.split == "train"
    )
    assert label_counts.total() == 10_847
    assert (
        long_tail_counts({name: label_counts[name] for name in CLASSES}, 100)
        == label_counts
    )
    assert (
        len(source.images) == 12_847
        and source.skipped == {}
        and read_chip(source.images[0].path).shape == (32, 32, 3)
    )
