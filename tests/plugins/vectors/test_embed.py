"""From chips to vectors, to a classifier on them, to a table of new chips."""

import json
import shutil
from functools import partial
from pathlib import Path

import cv2
import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import rsft as package
from rsft.data.chips.store import ChipStore

SIMSHIP = ("--backbone", "vit_tiny_patch8_64.simship", "--input-size", "32")


@pytest.fixture
def embed(rsft, root):
    return partial(rsft, "embed", root, "-o", "vectors.parquet", *SIMSHIP)


@pytest.mark.slow
def test_a_classifier_on_vectors(rsft, embed, root, tmp_path):
    code, printed = embed()
    assert code == 0, printed
    assert "58 chips, vectors of 192 numbers" in printed
    table = pq.read_table("vectors.parquet")
    assert {"chip", "path", "split", "class", "vector"} <= set(table.column_names)
    metadata = json.loads(table.schema.metadata[b"rsft"])
    assert metadata["model"] == "vit_tiny_patch8_64.simship"
    assert len(metadata["model_sha256"]) == 64
    code, printed = embed()
    assert code == 2 and "--overwrite" in printed
    code, printed = rsft("prepare", "vectors", "vectors.parquet", "--root", "store")
    assert code == 0 and "data.size=28" in printed, printed
    store = ChipStore.open(tmp_path / "store")
    assert store.counts == ChipStore.open(root).counts
    assert rsft("audit", "store")[0] == 0
    training = ("finetune", "vectors", "data.root=store", "data.size=28")
    code, printed = rsft(*training, "train.epochs=2")
    assert code == 0, printed
    assert (tmp_path / "runs/vectors/001/report.html").is_file()
    frame = gpd.read_parquet("vectors.parquet").drop(columns=["class", "split"])
    frame["geometry"] = gpd.points_from_xy(range(58), range(58))
    frame.at[3, "vector"] = np.full(192, np.nan, "float32")
    pd.testing.assert_series_equal(frame["chip"], frame["chip"].astype(str))
    frame.to_parquet("new.parquet")
    schema = pq.read_table("new.parquet")
    kept = {**schema.schema.metadata, b"rsft": table.schema.metadata[b"rsft"]}
    pq.write_table(schema.replace_schema_metadata(kept), "new.parquet")
    code, printed = rsft("predict", "runs/vectors", "new.parquet", "-o", "map.gpkg")
    assert code == 0, printed
    places = gpd.read_file("map.gpkg")
    assert len(places) == 57 and places.geometry.notna().all()
    name = frame["chip"][3]
    assert f"the chip {name} has no vector" in pd.read_csv("map.rejected.csv").to_csv()
    rows = package.load_bundle("runs/vectors").predict("new.parquet")
    assert len(rows) == 58 and rows["rejected"].notna().sum() == 1
    shutil.copy("new.parquet", "other.parquet")
    pq.write_table(schema.replace_schema_metadata({}), "other.parquet")
    code, printed = rsft("predict", "runs/vectors", "other.parquet", "-o", "x.csv")
    assert code and "vector_192" in printed
    code, printed = rsft(*training, "peft={method: lora}", "name=lora")
    assert code == 2 and "peft.method=linear-probe" in printed


def test_chips_of_two_units(rsft, tmp_path):
    (tmp_path / "chips").mkdir()
    noise = np.random.default_rng(0).integers(0, 200, (6, 24, 24), np.uint8)
    for number, image in enumerate(noise):
        pixels = image if number < 4 else image.astype(np.uint16) * 9
        cv2.imwrite(str(tmp_path / f"chips/{number}.png"), pixels)
    cv2.imwrite(str(tmp_path / "chips/color.png"), np.moveaxis(noise[:3], 0, 2))
    (tmp_path / "chips/torn.png").write_bytes(b"no image")
    code, printed = rsft("embed", "chips", "-o", "vectors.parquet", *SIMSHIP)
    assert code == 0 and "6 chips, vectors of" in printed
    rejected = pd.read_csv("vectors.rejected.csv")["file"]
    assert [Path(name).name for name in rejected] == ["color.png", "torn.png"]
    assert "the stretch was measured on these chips" in printed


def test_the_encoder_of_a_bundle(embed, run, root, rsft, tmp_path):
    code, printed = rsft("embed", root, "-o", "run.parquet", "--bundle", run)
    assert code == 0 and "vectors of 192 numbers" in printed
    code, printed = rsft("embed", root, "-o", "default.parquet")
    assert code == 0 and f"numbers from {SIMSHIP[1]}" in printed
    both = (*SIMSHIP, "--bundle", run)
    code, printed = rsft("embed", root, "-o", "x.parquet", *both)
    assert code == 2 and "leave out one of them" in printed
    noise = np.random.default_rng(0).integers(0, 256, (800, 800), np.uint8)
    cv2.imwrite("scene.png", noise)
    code, printed = rsft("embed", "scene.png", "-o", "x.parquet", *SIMSHIP)
    assert code and "a scene, not a chip" in printed
    assert not (tmp_path / "x.parquet").exists()
