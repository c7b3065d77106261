"""What is refused or warned about before a run begins."""

import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rsft.errors import RequestError
from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune
from rsft.training.setup import set_up
from tests.helpers.messages import mentions

pytestmark = pytest.mark.slow


def test_an_unknown_site_creates_no_run_folder(recipe_file, tmp_path):
    with pytest.raises(RequestError, match="blocks 0 to 2"):
        finetune(load_recipe(recipe_file, ["peft.blocks=[7]"]), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_an_unknown_block_of_a_head_creates_no_run_folder(recipe_file, tmp_path):
    with pytest.raises(
        RequestError, match=mentions("3 blocks", "0 to 1", "not 2")
    ) as caught:
        finetune(
            load_recipe(recipe_file, ["head.earlier_blocks=[0, 2]"]), tmp_path / "runs"
        )
    assert "head.earlier_blocks" in str(
        caught.value
    ) and "name blocks from 0 to 1" in str(caught.value)
    assert not (tmp_path / "runs").exists()


def copy_store(root, folder, keep):
    """Copy a chip store without the chips for which `keep` is false."""
    shutil.copytree(root, folder)
    table = pd.read_parquet(folder / "manifest.parquet")
    pq.write_table(
        pa.Table.from_pandas(table[keep(table)]), folder / "manifest.parquet"
    )
    return folder


def test_single_class_is_refused(recipe_file, root, tmp_path):
    store = copy_store(root, tmp_path / "one", lambda table: table["class"] == "flat")
    with pytest.raises(
        RequestError, match=mentions("all training chips", "class flat")
    ):
        finetune(load_recipe(recipe_file, [f"data.root={store}"]), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_class_without_validation_chips_gives_a_warning(
    recipe_file, root, tmp_path, caplog
):
    store = copy_store(
        root,
        tmp_path / "two",
        lambda table: (table["class"] != "steep") | (table["split"] != "val"),
    )
    set_up(load_recipe(recipe_file, [f"data.root={store}"]))
    assert "no chip in val: steep" in caplog.text


def test_clipped_chips_give_a_warning(recipe_file, caplog, monkeypatch):
    monkeypatch.setattr("rsft.data.imagery.stretch.PERCENTILES", (0.5, 50))
    set_up(load_recipe(recipe_file))
    assert "brightest pixel" not in caplog.text
    set_up(load_recipe(recipe_file, ["data.stretch=percentile"]))
    assert "brightest pixel is cut" in caplog.text and "(plane gray)" in caplog.text


def test_missing_data(recipe_file, tmp_path):
    with pytest.raises(RequestError, match=mentions("not a chip store")):
        finetune(load_recipe(recipe_file, [f"data.root={tmp_path / 'nothing'}"]))
