"""Caches and audits notice that chips were added to a store."""

import json
import shutil
from functools import partial

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rsft.data.audit import audit_store, write_audits
from rsft.data.chips.additions import add_chips, locked_store, scene_key
from rsft.data.chips.record import ChipRecord
from rsft.data.chips.store import AUDIT_FILE, ChipStore
from rsft.data.imagery.reader import read_chip
from rsft.data.loading.packing import load_packed_images
from rsft.errors import DataError
from tests.helpers.messages import mentions
from tests.helpers.scenes import toy_contract


@pytest.fixture
def store(root, tmp_path):
    """Copy of the store of bars."""
    return ChipStore.open(
        shutil.copytree(
            root, tmp_path / "store", ignore=shutil.ignore_patterns(".cache")
        )
    )


def labeled(path, label, scene=None, split="train"):
    """Return the record of a PNG file with a label."""
    columns = {"unit": "uint8", "group_key": scene}
    read_pixels = partial(read_chip, path)
    return ChipRecord(path.stem, split, label, path, read_pixels, 2, ("gray",), columns)


@pytest.mark.slow
def test_caches_audits_and_descriptions(store, class_folders, tmp_path):
    contract = toy_contract(bands=("gray",), planes=("gray",) * 3)
    write_audits(store.root / AUDIT_FILE, [audit_store(store)])
    (store.root / "croissant.json").write_text("{}")
    load_packed_images(store.root, store.split("train"), contract)
    (old,) = (store.root / ".cache").glob("*.npy")
    first = store.split("train").iloc[0]
    relabeled = labeled(store.root / first["path"], "steep")
    details = {"date": "2026-11-26", "table": "labels.csv"}
    result = add_chips(
        store.root, [relabeled], table=tmp_path / "labels.csv", details=details
    )
    assert result.relabeled == {("flat", "steep"): 1}
    assert (
        "`rsft audit` again" in result.notes[-2]
        and "`rsft data croissant` again" in result.notes[-1]
    )
    assert (
        not (store.root / AUDIT_FILE).exists()
        and not (store.root / "croissant.json").exists()
    )
    changed = ChipStore.open(store.root)
    assert (
        changed.split("train").iloc[0]["class"] == "steep"
        and changed.groups == store.groups
    )
    images = load_packed_images(store.root, changed.split("train"), contract)
    (new,) = (store.root / ".cache").glob("*.npy")
    assert old.name != new.name and len(images) == 40
    (record,) = json.loads((store.root / "dataset.json").read_text())["additions"]
    assert record["relabeled"] == [{"from": "flat", "to": "steep", "chips": 1}]


@pytest.mark.slow
def test_other_columns_of_the_manifest_stay(store, class_folders, tmp_path):
    manifest = pd.read_parquet(store.root / "manifest.parquet")
    manifest["box"] = [
        np.arange(8.0) if number % 2 else None for number in range(len(manifest))
    ]
    manifest["mmsi"], manifest["notes"] = "123", range(len(manifest))
    pq.write_table(
        pa.Table.from_pandas(manifest, preserve_index=False),
        store.root / "manifest.parquet",
    )
    new = tmp_path / "new.png"
    cv2.imwrite(str(new), 255 - cv2.imread(str(class_folders / "train/flat/0.png"), -1))
    details = {"date": "2026-11-26", "table": "labels.csv"}
    chips = [labeled(new, "flat", scene="b.tif", split="val")]
    add_chips(store.root, chips, table=tmp_path / "labels.csv", details=details)
    table = ChipStore.open(store.root).table
    (row,) = table.index[table["name"] == "new"]
    assert table.loc[row, ["split", "group_key"]].tolist() == ["val", "b"]
    assert table.loc[row, ["box", "mmsi"]].isna().all()
    others = table.drop(row).reset_index(drop=True)
    assert others["notes"].tolist() == manifest["notes"].tolist() and set(
        others["mmsi"]
    ) == {"123"}
    assert [None if box is None else box.tolist() for box in others["box"][:2]] == [
        None,
        list(range(8)),
    ]


def write_pending(root, **entries):
    dataset = json.loads((root / "dataset.json").read_text())
    dataset["pending"] = {"manifest_sha256": "0", "dataset.json": {}} | entries
    (root / "dataset.json").write_text(json.dumps(dataset))


def test_a_pending_change_deletes_nothing(store, tmp_path):
    """Its record may come from somebody else; 0.2 listed the new chips in it."""
    mine = tmp_path / "mine.png"
    mine.touch()
    write_pending(store.root, files=["../mine.png", "README.md"])
    with locked_store(store.root):
        assert mine.exists() and (store.root / "README.md").exists()
    assert "pending" not in (store.root / "dataset.json").read_text()


@pytest.mark.parametrize(
    "damage",
    [{"dataset.json": 1}, {"manifest_sha256": 1}],
)
def test_a_damaged_pending_change_is_named_with_a_way_out(store, damage):
    before = (store.root / "dataset.json").read_bytes()
    write_pending(store.root, **damage)
    with (
        pytest.raises(
            DataError, match=rf"damaged: pending\.{next(iter(damage))}"
        ) as caught,
        locked_store(store.root),
    ):
        raise AssertionError
    assert (
        caught.value.location == str(store.root / "dataset.json")
        and "correct the file" in caught.value.hint
    )
    (store.root / "dataset.json").write_bytes(before)
    with locked_store(store.root):
        pass


def test_origins_of_another_type_are_an_error(store):
    table = pd.read_parquet(store.root / "manifest.parquet").assign(added_previous=1)
    table.to_parquet(store.root / "manifest.parquet")
    with pytest.raises(
        DataError, match=mentions("row 1", "added_previous", "found 1", "text")
    ):
        _ = ChipStore.open(store.root).table


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a/S1A_IW.SAFE", "S1A_IW"),
        ("S1A_IW.SAFE.zip", "S1A_IW"),
        ("x.y.tif", "x.y"),
        ("C:\\d\\x.TIF", "x"),
        ("", ""),
    ],
)
def test_scene_key(name, key):
    assert scene_key(name) == key
