import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rsft.errors import RsftError
from rsft.models.bundle.bundle import Bundle
from rsft.models.loading import build_classifier, load_encoder
from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune

pytestmark = pytest.mark.slow


def test_run_folder(run):
    metadata = json.loads((run / "run.json").read_text())
    assert metadata["status"] == "done" and metadata["train_chips"] == 40
    assert metadata["modulator_parameters"] == 18
    metrics = pd.read_csv(run / "metrics.csv")
    assert metrics["epoch"].tolist() == [0, 1, 2]
    # the first epoch is the warm-up
    assert metrics["meta_loss"].isna().tolist() == [
        True,
        False,
        False,
    ]
    assert {path.name for path in run.iterdir()} >= {"recipe.yaml", "bundle"}
    assert not (run / "checkpoints").exists()


def test_scales_move_after_the_warm_up(run):
    scales = pd.read_csv(run / "modulator.csv").groupby("epoch")["value"]
    assert scales.size().tolist() == [18, 18, 18]
    assert scales.std()[0] == 0 and scales.std()[2] > 0


def test_the_stored_recipe_loads_back_equal(run):
    assert load_recipe(run / "recipe.yaml") == Bundle.load(run).recipe


def test_the_same_seed_gives_the_same_run(run, recipe_file, tmp_path):
    again = finetune(load_recipe(recipe_file), tmp_path / "runs")
    columns = ["train_loss", "meta_loss", "val_loss", "val_macro"]
    first = pd.read_csv(run / "metrics.csv")[columns]
    second = pd.read_csv(again.folder / "metrics.csv")[columns]
    assert first.equals(second)
    tensors = Bundle.load(run).tensors
    others = Bundle.load(again.folder).tensors
    assert all(torch.equal(tensors[key], others[key]) for key in tensors)


def test_the_bundle_holds_only_learned_tensors(run, recipe_file):
    recipe = load_recipe(recipe_file)
    classifier = build_classifier(load_encoder(recipe, ["gray"]), 3, recipe)
    tensors = Bundle.load(run).tensors
    assert set(tensors) == set(classifier.learned_state())


def test_plain_peft_has_no_modulator(recipe_file, tmp_path):
    run = finetune(
        load_recipe(recipe_file, ["meta=null", "train.epochs=1"]), tmp_path / "runs"
    )
    assert not (run.folder / "modulator.csv").exists()
    assert "gamma" not in Bundle.load(run.folder).tensors


def test_a_loss_that_is_not_finite_ends_the_run(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, ["train.lr=1e30"])
    with (
        pytest.raises(RsftError, match=r"inner loop is (nan|inf)"),
        np.errstate(all="ignore"),
    ):
        finetune(recipe, tmp_path / "runs")
    assert (
        json.loads((tmp_path / "runs/bars/001/run.json").read_text())["status"]
        == "failed"
    )


def copy_store(root, folder, keep):
    """Copy a chip store without the chips for which `keep` is false."""
    shutil.copytree(root, folder)
    table = pd.read_parquet(folder / "manifest.parquet")
    pq.write_table(
        pa.Table.from_pandas(table[keep(table)]), folder / "manifest.parquet"
    )
    return folder


def test_joint_schedule_in_half_precision_with_gradient_checkpointing(
    recipe_file, tmp_path
):
    overrides = [
        "meta.schedule=joint",
        "train.precision=bf16",
        "train.checkpointing=true",
    ]
    run = finetune(
        load_recipe(recipe_file, [*overrides, "train.accumulate_grad_batches=2"]),
        tmp_path,
    )
    gamma = Bundle.load(run.folder).tensors["gamma"]
    assert gamma.isfinite().all() and gamma.std() > 0


def test_weak_sites_are_pruned(recipe_file, tmp_path):
    run = finetune(load_recipe(recipe_file, ["meta.prune_below=1.0"]), tmp_path)
    pruned = run.metadata["pruned_sites"]
    assert pruned and not any(
        key.startswith(f"{site}.")
        for key in Bundle.load(run.folder).tensors
        for site in pruned
    )


def test_early_stopping(recipe_file, tmp_path):
    overrides = [
        "meta=null",
        "train.epochs=20",
        "train.patience=1",
        "train.min_delta=0.9",
    ]
    run = finetune(load_recipe(recipe_file, overrides), tmp_path)
    assert len(pd.read_csv(run.folder / "metrics.csv")) == 2
