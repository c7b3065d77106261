"""Chip stores of class folders: splits, long tails, class names."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from PIL import Image

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.data.prepare.image_folder import prepare_folder
from rsft.errors import RequestError
from tests.helpers.geokeys import write_chip_with_damaged_geokey
from tests.helpers.messages import mentions
from tests.helpers.scenes import write_geotiff

Command = Callable[..., tuple[int, str]]


def write_tree(root, counts):
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng(index).integers(
                0, 256, (6, 6), dtype=np.uint8
            )
            Image.fromarray(pixels).save(root / folder / f"{index:03}.png")
    return root


def test_one_level_gets_a_stratified_validation_split(tmp_path):
    src = write_tree(tmp_path / "src", {"a": 10, "b": 4, "c": 1})
    store = prepare_folder(src, tmp_path / "out", val=0.25)
    assert store.class_counts("train").tolist() == [8, 3, 1] and store.class_counts(
        "val"
    ).tolist() == [2, 1, 0]
    assert (
        store.split("test").empty and store.bands == ("gray",) and store.name == "out"
    )


def test_a_test_split_is_every_second_validation_image_of_a_class(tmp_path):
    src = write_tree(
        tmp_path / "src", {"train/a": 6, "train/b": 6, "val/a": 5, "val/b": 2}
    )
    store = prepare_folder(src, tmp_path / "out", test=0.5, seed=7)
    names = {split: sorted(store.split(split)["name"]) for split in ("val", "test")}
    assert names == {"val": ["000", "000", "002", "004"], "test": ["001", "001", "003"]}
    assert (
        store.class_counts("train").tolist() == [6, 6]
        and "--test 0.5" in (store.root / "README.md").read_text()
    )
    plain = prepare_folder(src, tmp_path / "plain")
    assert "--test" not in (plain.root / "README.md").read_text()


def test_a_test_split_of_class_folders_leaves_the_training_images_as_they_are(tmp_path):
    src = write_tree(tmp_path / "src", {"a": 16, "b": 8})
    whole = prepare_folder(src, tmp_path / "whole", val=0.5)
    halves = prepare_folder(src, tmp_path / "halves", val=0.25, test=0.25)
    assert [
        halves.class_counts(split).tolist() for split in ("train", "val", "test")
    ] == [[8, 4], [4, 2], [4, 2]]
    assert set(halves.split("train")["sha256"]) == set(whole.split("train")["sha256"])
    quarter = prepare_folder(src, tmp_path / "quarter", val=0.375, test=0.125)
    assert [quarter.class_counts(split).tolist() for split in ("val", "test")] == [
        [6, 3],
        [2, 1],
    ]


@pytest.mark.parametrize(
    ("folder", "test"),
    [("test/a", 0.5), ("val/a", 1.0), ("val/a", 0.0), ("train/a", 0.8)],
)
def test_a_test_split_that_cannot_be_made_is_refused(tmp_path, folder, test):
    src = write_tree(tmp_path / "src", {"train/b": 2, folder: 2})
    with pytest.raises(RequestError) as caught:
        prepare_folder(src, tmp_path / "out", test=test)
    assert "--test" in caught.value.location


def test_existing_splits_are_kept(tmp_path):
    src = write_tree(tmp_path / "src", {"train/a": 6, "val/a": 3, "test/a": 2})
    store = prepare_folder(src, tmp_path / "out", val=0.5)
    assert [
        store.class_counts(split).tolist() for split in ("train", "val", "test")
    ] == [[6], [3], [2]]


def test_a_chip_that_gdal_or_the_memory_cannot_hold_is_rejected_by_name(tmp_path):
    src = write_tree(tmp_path / "src", {"a": 3})
    write_chip_with_damaged_geokey(src / "a/geokey.tif")
    (src / "a/large.tif").touch()
    os.truncate(src / "a/large.tif", 24 * 2**30)
    store = prepare_folder(src, tmp_path / "out")
    rejected = pd.read_csv(store.root / "rejected.csv")
    assert len(store.table) == 3 and [Path(file).name for file in rejected["file"]] == [
        "geokey.tif",
        "large.tif",
    ]
    assert (
        "damaged" in rejected["reason"][0]
        and "limit is 2,147,483,648" in rejected["reason"][1]
    )


def test_imbalance_reduces_only_training_and_is_counted(tmp_path):
    counts = {
        "train/a": 20,
        "train/b": 24,
        "train/c": 24,
        "val/a": 3,
        "val/b": 3,
        "val/c": 3,
    }
    src = write_tree(tmp_path / "src", counts)
    store = prepare_folder(src, tmp_path / "out", imbalance=4)
    assert store.class_counts("train").tolist() == [6, 24, 12] and store.class_counts(
        "val"
    ).tolist() == [3, 3, 3]
    assert store.skipped == {"training chip, to reach an imbalance of 4": 26}


def test_class_folders_that_are_not_utf8_are_rejected_in_words(rsft, tmp_path):
    src = write_tree(tmp_path / "src", {"train/a": 3, "train/b": 3})
    (src / "train/b").rename(os.fsdecode(os.fsencode(src / "train") + b"/\xff\xfe"))
    code, printed = rsft("prepare", "folder", src, "--root", tmp_path / "out")
    assert code == 0 and "3 rejected" in printed, printed
    store = ChipStore.open(tmp_path / "out")
    rejected = pd.read_csv(store.root / "rejected.csv")
    assert store.classes == ("a",) and len(store.table) == 3
    assert rejected["file"][0] == rf"{src}/train/\udcff\udcfe/000.png"
    assert set(rejected["reason"]) == {
        "the name of the class folder is not UTF-8 text: rename it"
    }
    (src / "train/a").rename(tmp_path / "a")
    code, printed = rsft("prepare", "folder", src, "--root", tmp_path / "none")
    assert (
        code == 2
        and "no labeled image in the folder" in printed
        and "not UTF-8 text" in printed
    )


@pytest.mark.parametrize("kind", ["list", "table"])
def test_rows_with_huge_labels_and_names_are_rejected(rsft, tmp_path, kind):
    src = write_tree(tmp_path / "src", {"images": 2})
    rows = [
        ("images/000.png", "1"),
        ("images/001.png", "9" * 5000),
        ("images/001.png", "货" * 90),
        ("n" * 300, "1"),
    ]
    rows += [
        ("n" * 300 + "/x.png", "1"),
        ("n" * 5000, "1"),
        ("images/001.png", "n" * 251),
    ]
    listed = src / ("train.txt" if kind == "list" else "labels.csv")
    separator, header = (" ", "") if kind == "list" else (",", "path,class\n")
    listed.write_text(
        header + "".join(f"{path}{separator}{label}\n" for path, label in rows), "utf-8"
    )
    code, _ = rsft(
        "prepare",
        "folder",
        src if kind == "list" else listed,
        "--root",
        tmp_path / "out",
    )
    store = ChipStore.open(tmp_path / "out")
    assert (
        code == 0
        and store.classes == ("1",)
        and len(store.table) == 1
        and store.rejected == 6
    )
    rejected = pd.read_csv(store.root / "rejected.csv")
    assert rejected["line"].tolist() == [
        number + (kind == "table") for number in (2, 3, 4, 5, 6, 7)
    ]
    assert (
        rejected["reason"][0]
        == f"label {'9' * 40}... has 5,000 letters; the limit is 250 bytes"
    )
    assert (
        rejected["reason"].str.contains("does not exist").sum() == 3
        and rejected["reason"].str.len().max() < 700
    )


@pytest.mark.parametrize(
    ("argument", "value"),
    [("val", 1.0), ("val", -0.1), ("imbalance", 0.5), ("not-a-target", "clutter")]
    + [("spacing", value) for value in (0.0, -1.0, float("nan"), float("inf"))],
)
def test_arguments_out_of_range_are_refused(tmp_path, argument, value):
    src = write_tree(tmp_path / "src", {"a": 2})
    with pytest.raises(RequestError) as caught:
        prepare_folder(src, tmp_path / "out", **{argument.replace("-", "_"): value})
    assert caught.value.location == f"--{argument}"


@pytest.mark.slow
def test_license_is_stored_and_part_of_the_command(tmp_path):
    src = write_tree(tmp_path / "src", {"a": 3, "b": 3})
    store = prepare_folder(src, tmp_path / "out", license="our terms, no-military")
    metadata = json.loads((store.root / "dataset.json").read_text())
    assert store.license == metadata["license"] == "our terms, no-military"
    assert "--license 'our terms, no-military'" in metadata["command"]
    plain = prepare_folder(src, tmp_path / "plain")
    assert plain.license == "unknown"
    assert (
        "--license"
        not in json.loads((plain.root / "dataset.json").read_text())["command"]
    )


@pytest.mark.slow
def test_license_is_an_option_of_the_command(tmp_path, rsft):
    write_tree(tmp_path / "src", {"a": 3, "b": 3})
    code, printed = rsft(
        "prepare", "folder", "src", "--root", "out", "--license", "CC-BY-NC-4.0"
    )
    assert code == 0 and "license: CC-BY-NC-4.0 (non-commercial)" in printed
    assert "license: CC-BY-NC-4.0 (non-commercial)" in rsft("data", "show", "out")[1]


def test_files_that_cannot_be_used_are_listed(tmp_path):
    src = write_tree(tmp_path / "src", {"a": 4})
    (src / "a" / "text.png").write_text("no image")
    (src / "a" / "cut.png").write_bytes((src / "a" / "000.png").read_bytes()[:60])
    store = prepare_folder(src, tmp_path / "out", val=0)
    assert store.rejected == 2 and len(store.table) == 4
    listed = pd.read_csv(store.root / "rejected.csv")
    assert [Path(file).name for file in listed["file"]] == ["cut.png", "text.png"]


def test_one_name_in_two_folders_of_a_class_stays_two_chips(tmp_path):
    src = write_tree(tmp_path / "src", {"a/x": 1, "a/y": 1})
    store = prepare_folder(src, tmp_path / "out", val=0)
    assert store.table["name"].tolist() == ["a__x__000_png", "a__y__000_png"]


def test_a_single_class_gives_a_warning(tmp_path, rsft):
    src = write_tree(tmp_path / "src", {"train/a": 2, "train/empty": 0})
    code, printed = rsft("prepare", "folder", src, "--root", tmp_path / "out")
    assert code == 0 and "warning: all chips have the class a" in printed


@pytest.mark.parametrize(
    ("rare", "counts"),
    [
        (None, {"a": 12, "b": 2, "c": 1}),
        ("keep", {"a": 12, "b": 2, "c": 1}),
        ("merge", {"a": 12, "other": 3}),
        ("drop", {"a": 12}),
    ],
)
def test_rare_classes_are_named_and_kept_merged_or_left_out(
    tmp_path, rsft, rare, counts
):
    src = write_tree(tmp_path / "src", {"a": 12, "b": 2, "c": 1})
    root = tmp_path / "out"
    options = ["--rare", rare] if rare else []
    code, printed = rsft("prepare", "folder", src, "--root", root, "--val", 0, *options)
    store = ChipStore.open(root)
    assert code == 0 and store.table["class"].value_counts().to_dict() == counts
    assert store.classes == tuple(counts)
    kept = rare in (None, "keep")
    warning = "fewer than 10 chips: c (1), b (2); they are hardly learned"
    assert (warning in " ".join(printed.split())) is kept
    left_out = {"chip of a rare class": 3} if rare == "drop" else {}
    assert store.skipped == left_out
    assert ("--rare" in (root / "README.md").read_text()) is (rare is not None)


@pytest.mark.parametrize(
    "folders",
    [["train"], ["train2017"], ["train/images"], ["images/train", "masks/train"]],
)
def test_labels_of_objects_are_no_class_folders(tmp_path, folders):
    src = write_tree(tmp_path / "src", dict.fromkeys(folders, 2))
    with pytest.raises(
        RequestError, match=mentions("no class folders", "rsft prepare scenes")
    ):
        prepare_folder(src, tmp_path / "out")


def test_a_file_that_exists_is_not_called_missing(tmp_path):
    (tmp_path / "coco.json").write_text("{}")
    with pytest.raises(
        RequestError, match=mentions("a file", "class folders", "rsft prepare scenes")
    ):
        prepare_folder(tmp_path / "coco.json", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.realdata
def test_mstar_long_tail(shared, tmp_path):
    store = prepare_folder(
        shared("mstar_soc10"), tmp_path / "mstar", imbalance=50, seed=0
    )
    assert sorted(store.class_counts("train"), reverse=True) == [
        299,
        193,
        125,
        81,
        52,
        34,
        22,
        14,
        9,
        5,
    ]
    assert store.class_counts("val").tolist() == [
        274,
        195,
        274,
        195,
        196,
        274,
        273,
        196,
        274,
        274,
    ]
    assert (
        store.rejected == 0 and store.units == ("uint8",) and store.bands == ("gray",)
    )


@pytest.mark.slow
def test_float_chips_of_two_polarizations(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for index in range(2):
            path = tmp_path / "in" / split / "ship" / f"{index}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            with rasterio.open(path, "w", "GTiff", 8, 8, 2, dtype="float32") as file:
                file.write(rng.gamma(2, 0.05, (2, 8, 8)).astype(np.float32))
    store = prepare_folder(
        tmp_path / "in",
        tmp_path / "out",
        unit="sigma0",
        bands=("VV", "VH"),
    )
    assert (
        store.units == ("sigma0",)
        and store.bands == ("VV", "VH")
        and store.rejected == 0
    )
    store = prepare_folder(
        tmp_path / "in",
        tmp_path / "upper",
        unit="Sigma0",
        bands=("VV", "VH"),
    )
    assert store.units == ("sigma0",)
    with pytest.raises(RequestError, match=mentions("dB0", "uint8", "--unit")):
        prepare_folder(tmp_path / "in", tmp_path / "other", unit="dB0")


def test_a_table_of_labels(tmp_path):
    write_tree(tmp_path / "src", {"x/a": 3, "y/a": 3})
    rows = [
        f"src/{folder}/a/{index:03}.png,{name}"
        for folder, name in (("x", "b"), ("y", "c"))
        for index in range(3)
    ]
    (tmp_path / "labels.csv").write_text(
        "\n".join(["path,class", *rows, "src/gone.png,b"])
    )
    store = prepare_folder(tmp_path / "labels.csv", tmp_path / "out", val=0.34)
    assert store.classes == ("b", "c") and store.rejected == 1
    assert (store.class_counts("train") + store.class_counts("val")).tolist() == [3, 3]


@pytest.mark.slow
def test_bands_are_selected_by_the_names_in_the_files(tmp_path):
    pixels = np.random.default_rng(0).gamma(2, 0.05, (2, 8, 8)).astype(np.float32)
    for name, bands in (
        ("both", ("VH", "VV")),
        ("vv", ("VV",)),
        ("vh", ("VH",)),
        ("one", ()),
        ("two", ("", "")),
    ):
        (tmp_path / "in/train/ship").mkdir(parents=True, exist_ok=True)
        count = 1 if name == "one" else len(bands)
        with rasterio.open(
            tmp_path / f"in/train/ship/{name}.tif",
            "w",
            "GTiff",
            8,
            8,
            count,
            dtype="float32",
        ) as file:
            file.write(pixels[-count:])
            for index, band in enumerate(bands, 1):
                file.set_band_description(index, band)
    build = partial(prepare_folder, tmp_path / "in", unit="sigma0", val=0)
    store = build(tmp_path / "out", bands=("VV",), spacing=10)
    assert store.table["name"].tolist() == ["both", "one", "vv"] and store.bands == (
        "VV",
    )
    assert set(store.table["spacing_m"]) == {10.0}
    for path in store.table["path"]:
        np.testing.assert_array_equal(read_chip(store.root / path)[:, :, 0], pixels[1])
    reasons = {
        Path(line.split(",")[0]).name: line
        for line in (store.root / "rejected.csv").read_text().splitlines()
    }
    assert (
        '"bands VH, without VV"' in reasons["vh.tif"]
        and '"2 bands, but names for 1 (VV)"' in reasons["two.tif"]
    )
    by_file = build(tmp_path / "all")  # the most common bands
    assert by_file.bands in (("VH",), ("VV",)) and by_file.rejected == 4


def test_unit_in_the_tags_of_chips(tmp_path):
    (tmp_path / "in/ship").mkdir(parents=True)
    for index in range(2):
        pixels = (
            np.random.default_rng(index).normal(-20, 2, (2, 8, 8)).astype(np.float32)
        )
        pixels[:, :, :2] = np.nan
        names = {"names": ("VV", "VH"), "units": ("gamma0_db",) * 2, "nodata": np.nan}
        write_geotiff(
            tmp_path / f"in/ship/{index}.tif",
            pixels,
            **(names if index else {"names": ("VV", "VH")}),
        )
    store = prepare_folder(tmp_path / "in", tmp_path / "out", val=0)
    assert (
        store.units == ("gamma0_db",)
        and store.bands == ("VV", "VH")
        and store.rejected == 1
    )


@pytest.mark.slow
def test_names_that_are_not_utf8_are_rejected(tmp_path):
    src = write_tree(tmp_path / "src", {"train/a": 4, "val/a": 2})
    odd = Path(os.fsdecode(os.fsencode(src / "train/a") + b"/\xff\xfe.png"))
    odd.write_bytes((src / "train/a/000.png").read_bytes())
    store = prepare_folder(src, tmp_path / "out")
    assert len(store.table) == 6 and store.rejected == 1
    rejected = pd.read_csv(store.root / "rejected.csv").iloc[0]
    assert (
        rejected["file"] == rf"{src}/train/a/\udcff\udcfe.png"
        and "not UTF-8" in rejected["reason"]
    )
    assert prepare_folder(src, tmp_path / "again").rejected == 1
