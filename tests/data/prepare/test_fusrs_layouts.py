"""Layouts of FUSAR-Ship and SRSDD that are met in the wild: each gives the right store, or an error."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rsft.data.chips.store import ChipStore
from rsft.data.prepare.fusrs import prepare_fusrs
from rsft.errors import DataError, RequestError
from tests.data.datasets.fusar_ship.data import make_names, write_chip, write_fusar
from tests.data.datasets.srsdd.data import HEADER, write_srsdd
from tests.helpers.messages import mentions

COUNTS = {"Cargo": 16, "Fishing": 8, "Tanker": 6, "Dredger": 4, "Other": 9, "SAR": 3}
"""46 chips of FUSAR-Ship, 34 of them in the four classes."""

RIGHT = {"cargo": 16, "fishing": 8, "tanker": 6, "dredger": 4}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """SRSDD with 20 ships, and the folder for FUSAR-Ship beside it."""
    write_srsdd(tmp_path / "SRSDD", {image: ["Container", "ore-oil"] for image in range(10)})
    return tmp_path


def build(raw: Path, **options: Any) -> ChipStore:
    return prepare_fusrs(raw / "out", jobs=1, **options)


def fusar_counts(store: ChipStore) -> Counter[str]:
    return Counter(store.table["class"][store.table["source"] == "FUSAR-Ship"])


def rename_categories(root: Path, rename: Callable[[str], str]) -> None:
    moved = [(path.rename(path.with_name("_" + path.name)), path) for path in root.iterdir() if path.is_dir()]
    for temporary, path in moved:
        temporary.rename(path.with_name(rename(path.name)))


@pytest.mark.slow
def test_tree_a_as_published(raw: Path) -> None:
    write_fusar(raw / "FUSAR-Ship1.0", make_names(COUNTS))
    store = build(raw)
    assert fusar_counts(store) == RIGHT and len(store.table) == 34 + 20
    assert set(store.table["flags"]) == {""} and store.rejected == 0
    assert store.skipped == {
        "FUSAR-Ship Other: not among the classes": 9,
        "FUSAR-Ship SAR: not among the classes": 3,
    }


@pytest.mark.slow
@pytest.mark.parametrize("meta", ["inside", "above"])
@pytest.mark.parametrize("classes", [4, 5])
def test_tree_b_in_a_folder_called_sar(raw: Path, classes: int, meta: str) -> None:
    root = write_fusar(raw / "高分辨率船只数据集FUSAR-Ship1.0/SAR", make_names(COUNTS))
    if meta == "above":
        (root / "meta.csv").rename(root.parent / "meta.csv")
    store = build(raw, classes=classes)
    assert fusar_counts(store) == RIGHT | ({"other": 12} if classes == 5 else {})
    assert set(store.table["flags"]) == {""} and store.table["mmsi"].notna().sum() == fusar_counts(store).total()


@pytest.mark.slow
def test_tree_c_png_copies(raw: Path) -> None:
    write_fusar(raw / "FUSAR_png", make_names(COUNTS), suffix=".png")
    store = build(raw)
    assert fusar_counts(store) == RIGHT and set(store.table["flags"]) == {""}


@pytest.mark.slow
def test_png_copies_beside_the_originals_are_left_out(raw: Path) -> None:
    write_fusar(raw / "FUSAR/tiff", make_names(COUNTS))
    write_fusar(raw / "FUSAR/png", make_names(COUNTS), suffix=".png")
    store = build(raw)
    assert fusar_counts(store) == RIGHT and store.skipped["FUSAR-Ship: copy of a chip in another format"] == 46
    assert set(store.table["path"][store.table["source"] == "FUSAR-Ship"].map(lambda path: path[-5:])) == {".tiff"}


@pytest.mark.slow
def test_png_copies_with_three_equal_bands_have_one(raw: Path) -> None:
    root = write_fusar(raw / "FUSAR", make_names(COUNTS), suffix=".png")
    for path in root.rglob("*.png"):
        Image.fromarray(np.repeat(np.asarray(Image.open(path))[:, :, None], 3, axis=2)).save(path)
    store = build(raw)
    assert fusar_counts(store) == RIGHT and store.rejected == 0


@pytest.mark.slow
@pytest.mark.parametrize("above", ["", "SAR", "FUSAR_Ship_Processed"])
def test_tree_d_train_and_test_above_the_categories(raw: Path, above: str) -> None:
    write_fusar(raw / "FUSAR" / above / "train", make_names(COUNTS))
    write_fusar(raw / "FUSAR" / above / "test", make_names(COUNTS, start=500))
    store = build(raw)
    assert fusar_counts(store) == {name: 2 * count for name, count in RIGHT.items()}
    assert set(store.table["flags"]) == {""}


@pytest.mark.slow
@pytest.mark.parametrize("rename", [lambda name: f"{name}Ship", lambda name: f"{name}_vessels", str.lower, str.upper])
def test_trees_e_and_h_other_spellings_of_the_folders(raw: Path, rename: Callable[[str], str]) -> None:
    root = write_fusar(raw / "FUSAR", make_names(COUNTS))
    rename_categories(root, rename)
    store = build(raw)
    assert fusar_counts(store) == RIGHT and set(store.table["flags"]) == {""}
    assert store.table["mmsi"].notna().sum() == 34


@pytest.mark.slow
def test_folders_without_a_category_take_it_from_the_names(raw: Path) -> None:
    root = write_fusar(raw / "FUSAR", make_names(COUNTS))
    names = {"Cargo": "货船", "Fishing": "渔船"}
    rename_categories(root, lambda name: names.get(name, name))
    store = build(raw)
    assert fusar_counts(store) == RIGHT


@pytest.mark.slow
def test_tree_f_copy_of_srsdd(raw: Path) -> None:
    write_fusar(raw / "FUSAR", make_names(COUNTS))
    shutil.rmtree(raw / "SRSDD")
    names = ["bulk-cargo", "Law Enforce", "Cell-container", "Law-enforce", "Ore-oil"]
    write_srsdd(raw / "SRSDD/train", {image: names for image in range(8)}, header="")
    for folder in ("labels_yolo", "Annotations_yolo"):
        (raw / "SRSDD/train" / folder).mkdir()
        for image in range(8):
            (raw / "SRSDD/train" / folder / f"{image}.txt").write_text("0 0.5 0.5 0.1 0.2\n" * 3)
    store = build(raw, classes=5)
    counts = Counter(store.table["class"][store.table["source"] == "SRSDD"])
    assert counts == {"cargo": 16, "other": 16, "tanker": 8} and store.rejected == 0
    assert store.skipped["SRSDD: label file in another format"] == 16


@pytest.mark.slow
def test_header_and_train_and_test_of_srsdd(raw: Path) -> None:
    write_fusar(raw / "FUSAR", make_names(COUNTS))
    shutil.rmtree(raw / "SRSDD")
    for split, first in (("train", 0), ("test", 6)):
        write_srsdd(raw / "SRSDD" / split, {first + k: ["Container", "ore-oil"] for k in range(6)}, header=HEADER)
    assert (build(raw).table["source"] == "SRSDD").sum() == 24


@pytest.mark.slow
def test_tree_g_in_raw(raw: Path) -> None:
    (raw / "raw").mkdir()
    (raw / "SRSDD").rename(raw / "raw/SRSDD")
    write_fusar(raw / "raw/SAR", make_names(COUNTS))
    assert fusar_counts(build(raw)) == RIGHT


@pytest.mark.slow
def test_rows_without_a_file_and_files_without_a_row_are_counted(raw: Path) -> None:
    root = write_fusar(raw / "FUSAR", make_names(COUNTS))
    (root / "Cargo/Sub01/Ship_C01S01N0000.tiff").unlink()
    write_chip(root / "Cargo/Sub01/Ship_C01S01N0900.tiff", seed=1, size=16)
    store = build(raw)
    assert store.skipped["FUSAR-Ship: row of the meta table without a chip"] == 1
    assert list(store.table["name"][store.table["flags"] == "no-meta"]) == ["Ship_C01S01N0900"]


@pytest.mark.slow
def test_most_names_contradict_their_folder(raw: Path) -> None:
    root = write_fusar(raw / "FUSAR", make_names(COUNTS))
    names = {"Cargo": "Tanker", "Tanker": "Cargo", "Fishing": "Dredger", "Dredger": "Fishing"}
    rename_categories(root, lambda name: names.get(name, name))
    with pytest.raises(DataError, match=r"34 of 46 .*--allow-partial"):
        build(raw)
    assert not (raw / "out").exists()
    assert fusar_counts(build(raw, allow_partial=True)) == {"cargo": 6, "tanker": 16, "fishing": 4, "dredger": 8}


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["FUSAR-Ship", "SRSDD"])
def test_a_source_without_a_chip_of_the_classes(raw: Path, missing: str) -> None:
    write_fusar(raw / "FUSAR", make_names({"Tug": 3} if missing == "FUSAR-Ship" else COUNTS))
    if missing == "SRSDD":
        shutil.rmtree(raw / "SRSDD")
        write_srsdd(raw / "SRSDD", {1: ["LawEnforce"]})
    with pytest.raises(DataError, match=rf"{missing} gives no chip.*--allow-partial"):
        build(raw)
    assert not (raw / "out").exists()
    store = build(raw, allow_partial=True)
    assert missing not in set(store.table["source"]) and "--allow-partial" in (store.root / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["FUSAR-Ship", "SRSDD"])
def test_a_source_of_damaged_images(raw: Path, damaged: str) -> None:
    write_fusar(raw / "FUSAR", make_names(COUNTS))
    for path in (raw / damaged.removesuffix("-Ship")).rglob("*.tiff" if damaged == "FUSAR-Ship" else "*.png"):
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=rf"{damaged} gives no chip.*--allow-partial"):
        build(raw)
    assert not (raw / "out").exists()
    assert damaged not in set(build(raw, allow_partial=True).table["source"])


@pytest.mark.slow
def test_one_source_alone(raw: Path) -> None:
    with pytest.raises(RequestError, match=mentions("FUSAR-Ship", "no folder", "--allow-partial")):
        build(raw)
    store = build(raw, allow_partial=True)
    assert set(store.table["source"]) == {"SRSDD"} and len(store.table) == 20


@pytest.mark.slow
def test_the_authors_flat_folder(raw: Path) -> None:
    root = write_fusar(raw / "FUSAR", make_names(COUNTS), suffix=".png")
    for path in root.rglob("*.png"):
        path.rename(root / path.name)
    store = build(raw)
    assert fusar_counts(store) == RIGHT and set(store.table["flags"]) == {"", "category-from-name"}
    assert store.table["mmsi"].notna().sum() == 34
