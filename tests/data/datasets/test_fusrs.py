"""FUSRS: the authors' lists, and samples from both archives."""

import hashlib
import shutil
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset
from torchgeo.datasets import DatasetNotFoundError

from rsft.data.datasets.formats.fusrs_classes import (
    CLASSES,
    FUSAR_TO_FUSRS,
    SRSDD_TO_FUSRS,
)
from rsft.data.datasets.fusar_ship import FUSARShip
from rsft.data.datasets.fusrs import FUSRS, LIST_VERSIONS, read_fusrs_list
from rsft.data.datasets.srsdd import SRSDD
from tests.data.datasets.fusar_ship.data import write_chip
from tests.data.datasets.fusrs.data import LISTS, write_fusrs
from tests.helpers.messages import mentions


@pytest.fixture
def root(tmp_path):
    return write_fusrs(tmp_path / "root")


def test_rows_keep_their_lines_and_repetitions(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(
        "\ufeffShip_C07S11N0002.png 0\r\n\r\nL12_3.png 3\r\nShip_C07S11N0002.png 0\r\n".encode()
    )
    rows, rejected = read_fusrs_list(path, "train", 4)
    expected = [("Ship_C07S11N0002", 0, 1), ("L12_3", 3, 3), ("Ship_C07S11N0002", 0, 4)]
    assert [(row.name, row.label, row.line) for row in rows] == expected
    assert [(row.category, row.image) for row in rows[:2]] == [
        (7, None),
        (None, 12),
    ] and rejected == []


@pytest.mark.parametrize(
    "row",
    [
        "L1_1.png",
        "L1_1.png 0 0",
        "L1_1.png 4",
        "L1_1.png -1",
        "L1_1.png ²",
        "ship.png 0",
        "L1.png 0",
    ],
)
def test_invalid_row_is_rejected_with_its_line(tmp_path, row):
    path = tmp_path / "list.txt"
    path.write_text(f"L1_1.png 0\n{row}\n", "utf-8")
    rows, rejected = read_fusrs_list(path, "test", 4)
    assert len(rows) == 1
    [(file, line, why)] = rejected
    assert (file, line) == (str(path), 2) and "`name label`" in why


@pytest.mark.parametrize(
    ("content", "reason"),
    [("nonsense\n", "line 1: the row is not"), ("", "the file is empty")],
)
def test_a_list_without_a_usable_row_is_refused(root, content, reason):
    (root / "v25_train.txt").write_text(content)
    with pytest.raises(ValueError, match=mentions("v25_train.txt", reason)):
        FUSRS(root)


def test_samples_are_the_rows(root):
    dataset = FUSRS(root)
    assert [row.name for row in dataset.rows] == [
        "L1_1",
        "Ship_C07S11N0002",
        "Ship_C07S11N0002",
    ]
    assert [int(dataset[index]["label"]) for index in range(len(dataset))] == [0, 0, 0]
    assert [dataset[index]["image"].shape for index in (0, 1)] == [
        (1, 64, 64),
        (1, 16, 16),
    ]
    expected = np.asarray(
        Image.open(root / "FUSAR-Ship/Other/Sub11/Ship_C07S11N0002.tiff")
    )
    np.testing.assert_array_equal(dataset[1]["image"][0], expected)
    assert [(line, reason.split(",")[0]) for _, line, reason in dataset.rejected] == [
        (5, "the row is not `name label`"),
        (4, "L9_1 is in neither archive"),
    ]


@pytest.mark.parametrize(
    ("split", "num_classes", "classes"),
    [
        ("test", 4, ["fishing", "tanker"]),
        ("train", 5, ["other"]),
        ("test", 5, ["dredger"]),
    ],
)
def test_splits_and_classes(root, split, num_classes, classes):
    dataset = FUSRS(
        root,
        split,
        num_classes,
        transforms=lambda sample: sample | {"seen": torch.ones(1)},
    )
    assert [
        dataset.classes[int(dataset[index]["label"])] for index in range(len(dataset))
    ] == classes
    assert dataset[0]["seen"] == 1


def test_invalid_arguments(root):
    with pytest.raises(AssertionError, match="Split 'val' not supported"):
        FUSRS(root, split="val")
    with pytest.raises(AssertionError, match=mentions("num_classes")):
        FUSRS(root, num_classes=3)


@pytest.mark.parametrize("missing", ["v25_train.txt", "FUSAR-Ship", "SRSDD"])
def test_not_found(root, missing):
    shutil.move(root / missing, root.parent / "elsewhere")
    with pytest.raises(DatasetNotFoundError, match="Dataset not found"):
        FUSRS(root)


def test_a_name_of_several_files_stands_for_the_one_in_its_category(root):
    write_chip(root / "FUSAR-Ship/Cargo/Sub11/Ship_C07S11N0002.tiff", seed=5)
    write_chip(root / "FUSAR-Ship/Other/Sub12/Ship_C07S11N0002.tiff", seed=6)
    dataset = FUSRS(root)
    assert [chip.path.parent.name for chip in dataset.chips["Ship_C07S11N0002"]] == [
        "Sub11",
        "Sub12",
        "Sub11",
    ]
    assert dataset[1]["image"].shape == (1, 16, 16)


def test_every_category_is_mapped_or_unknown():
    assert set(FUSARShip.classes) - FUSAR_TO_FUSRS.keys() == {"Reserved", "Unspecified"}
    assert set(SRSDD.classes) == SRSDD_TO_FUSRS.keys()


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("num_classes", "train", "test"),
    [
        (4, {"cargo": 3890, "fishing": 814, "tanker": 315, "dredger": 242}, 1700),
        (
            5,
            {
                "cargo": 3890,
                "other": 1710,
                "fishing": 814,
                "tanker": 315,
                "dredger": 242,
            },
            2129,
        ),
    ],
)
def test_the_published_lists(shared, num_classes, train, test):
    version = LIST_VERSIONS[num_classes]
    paths = {
        split: shared("fusrs_lists") / f"{version}_{split}.txt"
        for split in FUSRS.splits
    }
    (rows, rejected), (test_rows, test_rejected) = (
        read_fusrs_list(paths[s], s, num_classes) for s in FUSRS.splits
    )
    assert (
        Counter(CLASSES[num_classes][row.label] for row in rows) == train
        and len(test_rows) == test
    )
    assert rejected == test_rejected == []
    assert all(
        hashlib.md5(path.read_bytes()).hexdigest() == FUSRS.md5s[path.name]
        for path in paths.values()
    )


def copy_file(url, root, filename):
    """Take the place of `download_url`, which reads servers only."""
    shutil.copy(url, root / filename)


class TestFUSRS:
    """The tests that TorchGeo has for each of its data sets."""

    @pytest.fixture(params=["train", "test"])
    def dataset(self, monkeypatch, tmp_path, request):
        md5s = {
            name: hashlib.md5(rows.encode()).hexdigest() for name, rows in LISTS.items()
        }
        monkeypatch.setattr(FUSRS, "md5s", md5s)
        server = write_fusrs(tmp_path / "server")
        monkeypatch.setattr(FUSRS, "url", f"{server}/")
        monkeypatch.setattr("rsft.data.datasets.fusrs.download_url", copy_file)
        root = tmp_path / "root"
        root.mkdir()
        for archive in ("FUSAR-Ship", "SRSDD"):  # which are downloaded by hand
            shutil.copytree(server / archive, root / archive)
        return FUSRS(
            root,
            request.param,
            transforms=nn.Identity(),
            download=True,
            checksum=True,
        )

    def test_getitem(self, dataset):
        x = dataset[0]
        assert isinstance(x, dict)
        assert isinstance(x["image"], torch.Tensor)
        assert isinstance(x["label"], torch.Tensor)

    def test_len(self, dataset):
        assert len(dataset) == {"train": 3, "test": 2}[dataset.split]

    def test_add(self, dataset):
        ds = dataset + dataset
        assert isinstance(ds, ConcatDataset)
        assert len(ds) == 2 * len(dataset)

    def test_already_downloaded(self, dataset, monkeypatch):
        monkeypatch.setattr(FUSRS, "url", "missing/")
        FUSRS(dataset.root, dataset.split, download=True, checksum=True)

    def test_corrupted(self, dataset):
        path = dataset.root / f"v25_{dataset.split}.txt"
        path.write_text(path.read_text() + "L1_1.png 0\n")
        FUSRS(dataset.root, dataset.split)
        with pytest.raises(RuntimeError, match="Dataset found, but corrupted"):
            FUSRS(dataset.root, dataset.split, checksum=True)

    def test_not_downloaded(self, dataset):
        (dataset.root / f"v25_{dataset.split}.txt").unlink()
        with pytest.raises(DatasetNotFoundError, match="use `download=True`"):
            FUSRS(dataset.root, dataset.split)

    def test_plot(self, dataset):
        x = dataset[0].copy()
        dataset.plot(x, suptitle="Test")
        plt.close()
        dataset.plot(x, show_titles=False)
        plt.close()
        x["prediction"] = x["label"].clone()
        dataset.plot(x)
        plt.close()
