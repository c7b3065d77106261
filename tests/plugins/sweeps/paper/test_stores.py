"""The chips and weights of a table: what is prepared, what is missing, and the hash of
every chip."""

import shutil

import pandas as pd
import pytest

from rsft.data.chips.store import ChipStore
from rsft.plugins.sweeps.paper.cells import store_path
from rsft.plugins.sweeps.paper.stores import (
    list_missing_weights,
    prepare_stores,
    write_chip_hashes,
)
from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from tests.data.datasets.dota.data import row, write_pair
from tests.helpers.plugins import needs_plugin


def recipe_on(name, root):
    return load_recipe(find_recipe(name), [f"data.root={root}"])


def test_a_store_is_the_named_folder_or_a_folder_in_it(root, tmp_path):
    recipe = recipe_on("satmae_sar_lora", "data/fusrs")
    assert store_path(recipe, root) == root
    assert store_path(recipe, tmp_path) == tmp_path / "fusrs"


def test_dota_is_prepared_from_the_folder_beside_the_store(tmp_path):
    for split in ("train", "val"):
        write_pair(
            tmp_path / "DOTA" / split, row(10, 10, 30, 20) + row(40, 5, 60, 20, "ship")
        )
    recipes = {
        "in21k_dota_lora": recipe_on("in21k_dota_lora", tmp_path / "dota-chips/dota")
    }
    (tmp_path / "dota-chips").mkdir()
    shutil.move(tmp_path / "DOTA", tmp_path / "dota-chips/DOTA_v1")
    assert prepare_stores(recipes, None, None) == []
    store = ChipStore.open(tmp_path / "dota-chips/dota")
    assert store.counts["train"]["ship"] == store.counts["val"]["plane"] == 1
    assert prepare_stores(recipes, None, None) == []  # it exists


@needs_plugin("natural_images")
def test_what_cannot_be_prepared_is_named_with_its_recipe(tmp_path):
    recipes = {"in21k_places_lora": recipe_on("in21k_places_lora", tmp_path / "places")}
    (line,) = prepare_stores(recipes, None, None)
    assert line.startswith(f"the chips {tmp_path}/places: ")
    assert line.endswith("rsft recipes show in21k_places_lora")
    empty = {"in21k_dota_lora": recipe_on("in21k_dota_lora", tmp_path / "none/dota")}
    (line,) = prepare_stores(empty, None, None)
    assert line.startswith(f"the chips {tmp_path}/none/dota: DOTA not found")


def test_weights_that_are_missing_are_named_once(tmp_path, monkeypatch):
    monkeypatch.setenv("RSFT_WEIGHTS", str(tmp_path))
    recipes = [
        recipe_on(name, tmp_path)
        for name in ("satmae_sar_lora", "satmae_sar_metalora", "mstar_lt_metalora")
    ]
    name = "satmae_vit_large_patch16_224.fmow_rgb"
    assert list_missing_weights(recipes) == [
        f"the weights of {name}: rsft weights get {name}"
    ]


@pytest.mark.slow
def test_chips_labels_and_splits_have_one_hash(root, tmp_path):
    store = ChipStore.open(root)
    first = write_chip_hashes(store, tmp_path / "chips.csv")
    table = pd.read_csv(tmp_path / "chips.csv")
    assert list(table) == ["path", "class", "split", "sha256"] and len(table) == len(
        store.table
    )
    written = (tmp_path / "chips.csv").stat().st_mtime_ns
    assert write_chip_hashes(store, tmp_path / "chips.csv") == first
    assert (tmp_path / "chips.csv").stat().st_mtime_ns == written
    table.loc[0, "split"] = "elsewhere"
    table.to_csv(tmp_path / "chips.csv", index=False)
    assert write_chip_hashes(store, tmp_path / "chips.csv") == first
