"""Chip stores of DOTA objects."""

import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from rsft.data.imagery.reader import read_chip
from rsft.data.prepare.dota import prepare_dota
from rsft.errors import DataError, RequestError, RsftError
from tests.data.datasets.dota.data import HEADER, row, write_image, write_pair
from tests.helpers.messages import mentions


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("DOTA 图像")
    for number in range(10):
        rows = (
            row(10, 10, 30, 20)
            + row(-5, 10, 30, 20, "ship", 1)
            + row(40, 5, 70, 50, "tennis-court")
        )
        write_pair(root, HEADER + rows, f"P{number}", seed=number)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_crops_are_the_pixels_of_the_image(tree, tmp_path, jobs):
    store = prepare_dota(tree, tmp_path / "out", jobs=jobs)
    assert (
        len(store.table) == 30
        and store.bands == ("R", "G", "B")
        and store.units == ("uint8",)
    )
    for chip in store.table.to_dict("records"):
        stem, *window = chip["name"].split("_")
        x1, y1, x2, y2 = map(int, window)
        image = cv2.imread(str(tree / f"images/{stem}.png"))
        assert image is not None
        np.testing.assert_array_equal(
            cv2.imread(str(store.root / chip["path"])), image[y1:y2, x1:x2]
        )
        assert (
            chip["path"] == f"chips/{chip['split']}/{chip['class']}/{chip['name']}.png"
        )
    table = store.table
    assert (
        table.groupby(table["name"].str.split("_").str[0])["split"].nunique().max() == 1
    )
    assert table["split"].value_counts().to_dict() == {"train": 24, "val": 6}
    val = table[table["split"] == "val"]["name"]
    assert {name.split("_")[0] for name in val} == {"P1", "P6"}  # seed 0
    assert store.license == "academic use only, non-commercial"
    ship = store.table[store.table["class"] == "ship"].iloc[0]
    assert ship["flags"] == "clipped,difficult" and ship["box"].tolist() == [
        -5,
        0,
        30,
        0,
        30,
        10,
        -5,
        10,
    ]
    assert (ship["sensor"], ship["spacing_m"], ship["source"]) == (
        "GoogleEarth",
        0.5,
        "DOTA-v1.0",
    )


@pytest.mark.slow
def test_split_folders_are_kept(tmp_path):
    for split in ("train", "val"):
        write_pair(tmp_path / "src" / split, row(10, 10, 30, 20))
    store = prepare_dota(tmp_path / "src", tmp_path / "out", classes=18, jobs=1)
    assert [Path(path).parts[1:3] for path in store.table["path"]] == [
        ("train", "plane"),
        ("val", "plane"),
    ]
    assert (
        store.groups["tail"][-3:] == ["container-crane", "airport", "helipad"]
        and store.groups["head"][0] == "ship"
    )


@pytest.mark.slow
def test_each_image_is_decoded_once(tree, tmp_path, monkeypatch):
    decoded: Counter[str] = Counter()

    def counted(path):
        decoded[path.stem] += 1
        return read_chip(path)

    monkeypatch.setattr("rsft.data.datasets.dota.read_chip", counted)
    prepare_dota(tree, tmp_path / "out", jobs=1)
    assert decoded == {f"P{number}": 1 for number in range(10)}


@pytest.mark.slow
def test_truncated_image_rejects_only_its_objects(tmp_path):
    for stem in ("P1", "P2"):
        write_pair(
            tmp_path / "src/train", row(10, 10, 30, 20) + row(10, 10, 30, 25), stem
        )
    path = tmp_path / "src/train/images/P1.png"
    path.write_bytes(path.read_bytes()[:5000])
    store = prepare_dota(tmp_path / "src", tmp_path / "out", jobs=1)
    assert store.table["name"].tolist() == ["P2_10_10_30_20", "P2_10_10_30_25"]
    label_file = tmp_path / "src/train/labelTxt/P1.txt"
    assert (store.root / "rejected.csv").read_text().splitlines()[1:] == [
        f"{label_file},{line},P1.png: the file is truncated or damaged"
        for line in (1, 2)
    ]


def test_image_deleted_during_the_build_stops_it(tree, monkeypatch, tmp_path):
    write_pair(tmp_path / "src", row(10, 10, 30, 20))
    monkeypatch.setattr(
        "rsft.data.chips.group_splits.split_groups",
        lambda *_, seed: (tmp_path / "src/images/P1.png").unlink() or {},
    )
    with pytest.raises(RsftError, match="a source file disappeared") as caught:
        prepare_dota(tmp_path / "src", tmp_path / "out", jobs=1)
    assert caught.value.location == str(tmp_path / "src/images/P1.png")


@pytest.mark.slow
def test_image_replaced_before_resuming_is_cropped_again(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    rows = "".join(row(left, 10, left + 9, 20) for left in range(20))
    for stem in ("P1", "P2"):
        write_pair(tmp_path / "src/train", rows, stem)
    with pytest.raises(KeyboardInterrupt):
        prepare_dota(tmp_path / "src", tmp_path / "out", jobs=1, progress=stop)
    swapped = write_image(tmp_path / "src/train/images/P1.png", seed=7)
    os.utime(tmp_path / "src/train/images/P1.png", ns=(0, 1))
    store = prepare_dota(tmp_path / "src", tmp_path / "out", jobs=1)
    for chip in store.table[store.table["group_key"] == "P1"].to_dict("records"):
        x1, y1, x2, y2 = map(int, chip["name"].split("_")[1:])
        np.testing.assert_array_equal(
            read_chip(store.root / chip["path"]), swapped[y1:y2, x1:x2]
        )


def test_bad_requests(tree, tmp_path):
    for arguments in ({"classes": 16},):
        with pytest.raises(RequestError):
            prepare_dota(tree, tmp_path / "out", **arguments)
    write_pair(tmp_path / "src", row(10, 10, 11, 11))
    with pytest.raises(DataError, match=mentions("no chip")):
        prepare_dota(tmp_path / "src", tmp_path / "out", jobs=1)
    with pytest.raises(RequestError, match=mentions("DOTA v2.0", "1 x image without")):
        prepare_dota(tmp_path / "src/images", tmp_path / "out", version="2.0", jobs=1)


@pytest.mark.slow
@pytest.mark.realdata
def test_the_real_samples_build(shared, tmp_path):
    root = shared("dota_samples")
    store = prepare_dota(root, tmp_path / "out")
    assert len(store.table) == 593 and store.rejected == 4
    assert store.skipped == {"text file that is not a label file": 2}
    expected = {
        line.split()[0].split("/", 1)[1]
        for line in (root / "crops_P1888.txt").read_text().splitlines()
    }
    assert {
        path.split("/", 2)[2] for path in store.table["path"] if "/P1888_" in path
    } == expected


def write_lists(folder, train, val):
    folder.mkdir()
    for name, rows in {"train": train, "val": val}.items():
        (folder / f"dota_{name}_idx.txt").write_text(
            "".join(f"{row}\n" for row in rows)
        )
    return folder


def test_rows_splits_and_windows_are_those_of_the_lists(tmp_path):
    for number in range(3):
        rows = (
            row(10, 10, 30, 20)
            + row(40, 5, 43, 7, "ship")
            + row(-5, 10, 30, 20, "ship", 1)
        )
        write_pair(
            tmp_path / "src", HEADER + rows, f"P{number}__1__0___{number}", seed=number
        )
    first, last = "P0__1__0___0", "P2__1__0___2"
    train = [
        f"train/plane/{first}_10_10_30_20.png 0",
        f"train/ship/{first}_-5_10_30_20.png 1",
    ]
    train += [
        train[0],
        f"train/plane/{first}_11_10_30_20.png 0",
        "train/plane/P9_1_1_2_2.png 0",
        "train/plane/x 0",
    ]
    lists = write_lists(tmp_path / "lists", train, [f"val/ship/{last}_40_5_43_7.png 1"])
    store = prepare_dota(tmp_path / "src", tmp_path / "out", lists=lists, jobs=1)
    table = store.table.set_index("name")
    assert table["split"].to_dict() == {
        f"{first}_10_10_30_20": "train",
        f"{first}_10_10_30_20__2": "train",
        f"{first}_-5_10_30_20": "train",
        f"{last}_40_5_43_7": "val",
    }
    assert table.loc[f"{first}_10_10_30_20__2", "flags"] == "repeated-row"
    # clipped
    assert read_chip(store.root / table.loc[f"{first}_-5_10_30_20", "path"]).shape == (
        10,
        30,
        3,
    )
    rejected = (store.root / "rejected.csv").read_text()
    assert all(
        f"no label file has the object plane/{name}" in rejected
        for name in (f"{first}_11_10_30_20", "P9_1_1")
    )
    assert store.skipped == {"object in no list": 6}


def test_a_missing_list_is_named(tree, tmp_path):
    lists = write_lists(tmp_path / "lists", ["train/plane/P0_10_10_30_20.png 0"], [])
    (lists / "dota_val_idx.txt").unlink()
    with pytest.raises(RequestError, match=r"dota_val_idx\.txt is missing"):
        prepare_dota(tree, tmp_path / "out", lists=lists)
    write_lists(
        tmp_path / "other",
        ["train/plane/P0_1_1_3_3.png 0"],
        ["val/plane/P1_1_1_3_3.png 0"],
    )
    with pytest.raises(DataError, match="no row of the lists has an object"):
        prepare_dota(tree, tmp_path / "out", lists=tmp_path / "other")


def test_the_windows_of_the_published_lists_are_plain_boxes(shared, tmp_path):
    samples = shared("dota_samples")
    rows = (samples / "crops_P1888.txt").read_text().splitlines()
    lists = write_lists(tmp_path / "lists", rows[::2], rows[1::2])
    store = prepare_dota(samples, tmp_path / "out", lists=lists, jobs=1)
    assert sorted(store.table["name"]) == sorted(
        Path(row.split()[0]).stem for row in rows
    )
    assert store.table["split"].value_counts().to_dict() == {"train": 32, "val": 32}
