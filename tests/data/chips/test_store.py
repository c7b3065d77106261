"""Chip stores: what is written comes back, what cannot be used is listed, what is there is not overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rsft.data.chips.builder import Plan, Record, build_store
from rsft.data.chips.store import SCHEMA, ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.errors import DataError, RequestError
from rsft.types import Pixels

PLAN = Plan("tiny", ("b", "a"), "rsft prepare tiny", skipped={"not an image": 2}, rejected=[("labels.txt", 3, "odd")])


def chip(seed: int, dtype: str = "uint8", bands: int = 1) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (6, 5, bands)).astype(dtype)


def records(folder: Path) -> list[Record]:
    """Two files and two cuts of classes a and b."""
    for name, dtype in (("x.PNG", "uint8"), ("y.tiff", "uint16")):
        Image.fromarray(chip(1, dtype)[..., 0]).save(folder / name)
    facts = {"mmsi": "900000001", "spacing_m": 1.5, "box": [0.0] * 8, "flags": "category-index"}
    return [
        Record("x", "train", "a", folder / "x.PNG", facts=facts),
        Record("y", "test", "b", folder / "y.tiff"),
        Record("L1_1", "train", "b", folder / "1.txt", lambda: chip(2), 4),
        Record("L1_2", "val", "a", folder / "1.txt", lambda: chip(3, "uint16"), 5),
    ]


@pytest.fixture
def store(tmp_path: Path) -> ChipStore:
    return build_store(tmp_path / "store", records(tmp_path), PLAN)


def test_a_file_is_copied_byte_for_byte_and_a_cut_keeps_its_pixels(tmp_path: Path, store: ChipStore) -> None:
    assert (store.root / "chips/train/a/x.png").read_bytes() == (tmp_path / "x.PNG").read_bytes()
    cut = read_chip(store.root / "chips/val/a/L1_2.png")
    assert cut.dtype == np.uint16
    np.testing.assert_array_equal(cut, chip(3, "uint16"))


def test_rgb_cut_keeps_its_order(tmp_path: Path) -> None:
    only = [Record("c", "train", "a", tmp_path / "1.txt", lambda: chip(4, bands=3))]
    store = build_store(tmp_path / "store", only, PLAN)
    np.testing.assert_array_equal(read_chip(store.root / "chips/train/a/c.png"), chip(4, bands=3))
    assert store.bands == ("R", "G", "B")


def test_manifest_says_what_each_chip_is(store: ChipStore) -> None:
    assert list(store.table.columns) == SCHEMA.names
    row = store.table.set_index("path").loc["chips/train/a/x.png"]
    assert (row["class"], row["unit"], row["bands"], row["mmsi"]) == ("a", "uint8", "gray", "900000001")
    assert (row["group"], row["spacing_m"], row["flags"], list(row["box"])) == ("tail", 1.5, "category-index", [0] * 8)
    assert len(row["sha256"]) == 64


def test_store_answers_by_split(store: ChipStore) -> None:
    assert store.classes == ("b", "a") and store.groups == {"head": [], "medium": [], "tail": ["b", "a"]}
    assert store.counts("train").tolist() == [1, 1] and store.counts("val").tolist() == [0, 1]
    assert store.split("test")["name"].tolist() == ["y"] and store.units == ("uint16", "uint8")
    assert store.skipped == {"not an image": 2} and store.rejected == 1
    with pytest.raises(RequestError, match="no split called dev"):
        store.split("dev")


def test_pixels_of_a_split_and_unit(store: ChipStore) -> None:
    found = [*store.pixels("train", "uint8"), *store.pixels("train", "uint16")]
    assert len(found) == 2 and all(pixels.shape[2] == 1 for pixels in found)
    assert list(store.pixels("train", "db")) == []


def test_same_records_give_the_same_bytes_in_any_order(tmp_path: Path, store: ChipStore) -> None:
    again = build_store(tmp_path / "again", records(tmp_path)[::-1], PLAN)
    for name in ("manifest.parquet", "dataset.json", "rejected.csv", "README.md"):
        assert (again.root / name).read_bytes() == (store.root / name).read_bytes(), name


def test_what_cannot_be_used_is_listed_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"text")

    def outside() -> Pixels:
        raise DataError("the box lies outside the image")

    more = [
        Record("bad", "train", "a", tmp_path / "bad.png"),
        Record("out", "train", "a", tmp_path / "1.txt", outside, 7),
        Record("float", "train", "a", tmp_path / "1.txt", lambda: chip(0, "float32"), 8),
        Record("two", "train", "a", tmp_path / "1.txt", lambda: chip(0, bands=2), 9),
        Record("rgb", "train", "a", tmp_path / "1.txt", lambda: chip(0, bands=3), 10),
    ]
    store = build_store(tmp_path / "store", records(tmp_path) + more, PLAN)
    rows = pd.read_csv(store.root / "rejected.csv").set_index("line")["reason"].to_dict()
    assert rows[7] == "the box lies outside the image" and rows[8].startswith("float32 pixels")
    assert rows[9].startswith("2 bands") and rows[3] == "odd"
    assert len(store.table) == 4 and store.rejected == 6
    assert not (store.root / "chips/train/a/rgb.png").exists()
    assert rows[10] == "R,G,B, but most chips have gray"
    readme = (store.root / "README.md").read_text()
    assert "6 inputs could not be used" in readme and "- category-index: 1" in readme


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    twice = [*records(tmp_path), records(tmp_path)[0]]
    with pytest.raises(DataError, match="two chips of a are called x"):
        build_store(tmp_path / "store", twice, PLAN)
    with pytest.raises(DataError, match="no chip can be used"):
        build_store(tmp_path / "store", [], PLAN)
    assert not any(path.is_dir() for path in tmp_path.iterdir())


def test_a_store_is_replaced_only_when_asked_and_other_folders_never(tmp_path: Path, store: ChipStore) -> None:
    with pytest.raises(RequestError, match="a chip store already"):
        build_store(store.root, records(tmp_path), PLAN)
    assert len(build_store(store.root, records(tmp_path)[:1], PLAN, overwrite=True).table) == 1
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(RequestError, match="no chip store is there"):
        build_store(tmp_path / "photos", records(tmp_path), PLAN, overwrite=True)
    assert (tmp_path / "photos" / "holiday.jpg").exists()


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    build_store(tmp_path / "store", records(tmp_path), PLAN, progress=lambda *step: seen.append(step))
    assert seen[-1] == (4, 4, "writing chips")


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="rsft prepare"):
        ChipStore.open(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("manifest.parquet", b"PAR1", "cannot be read"),
        ("dataset.json", b"{", "damaged"),
        ("dataset.json", b"{}", "damaged"),
    ],
)
def test_a_damaged_store_is_refused(store: ChipStore, file: str, content: bytes, reason: str) -> None:
    (store.root / file).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        ChipStore.open(store.root)


def test_a_missing_column_and_an_unknown_class_are_named(store: ChipStore) -> None:
    store.table.drop(columns=["unit", "mmsi"]).to_parquet(store.root / "manifest.parquet")
    with pytest.raises(DataError, match="no column unit, mmsi"):
        ChipStore.open(store.root)
    store.table.to_parquet(store.root / "manifest.parquet")
    facts = json.loads((store.root / "dataset.json").read_text())
    (store.root / "dataset.json").write_text(json.dumps(facts | {"classes": ["b"]}))
    with pytest.raises(DataError, match="does not name: a"):
        ChipStore.open(store.root)
