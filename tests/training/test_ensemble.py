import json

import numpy as np
import pandas as pd
import pytest
import torch

from rsft.errors import Interrupted, RequestError, WeightsError
from rsft.evaluation.evaluate import evaluate
from rsft.models.averaging import Ensemble
from rsft.models.bundle.bundle import Bundle, combine_bundles
from rsft.models.loading import load_classifier, load_unmerged_classifier
from rsft.recipe.load import load_recipe
from rsft.training import finetune as finetune_module
from rsft.training.finetune import finetune
from tests.helpers.messages import mentions

pytestmark = pytest.mark.slow

OVERRIDES = ["train.ensemble_size=2", "train.epochs=2", "meta.warmup=0"]
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def ensemble_run(root, tmp_path_factory):
    """A finished run with two members."""
    folder = tmp_path_factory.mktemp("ensemble")
    text = (
        f"data: {{root: {root}, size: 32, augment: sar}}\nmeta: {{outer_every: 2, lr:"
        " 0.05}\n"
    )
    (folder / "bars.yaml").write_text(
        text + "train: {epochs: 3, batch_size: 8, lr: 0.02}\nevaluate: {baselines: 0}\n"
    )
    return finetune(load_recipe(folder / "bars.yaml", OVERRIDES), folder / "runs")


def load_members(run):
    return [
        Bundle.load(run.folder / "members" / f"run-{number}" / "001")
        for number in (1, 2)
    ]


@pytest.mark.exhaustive
@torch.no_grad()
def test_the_bundle_averages_its_members(ensemble_run):
    bundle = Bundle.load(ensemble_run.folder)
    members = load_members(ensemble_run)
    assert bundle.recipe.train.ensemble_size == 2 and bundle.calibrator is not None
    assert [member.recipe.seed for member in members] == [
        0,
        np.random.SeedSequence((0, 1)).generate_state(1)[0],
    ]
    model = load_classifier(bundle, "cpu")
    assert isinstance(model, Ensemble)
    expected = torch.stack(
        [load_classifier(member, "cpu")(IMAGES).softmax(1) for member in members]
    ).mean(0)
    assert torch.allclose(model(IMAGES).softmax(1), expected, atol=1e-4)
    second = load_unmerged_classifier(bundle, "cpu", run=1).learned_state()
    assert all(torch.equal(second[key], members[1].tensors[key]) for key in second)


def test_tables_are_means_over_the_members(ensemble_run):
    folders = (ensemble_run.folder, *sorted(ensemble_run.folder.glob("*/*/001")))
    tables = [pd.read_csv(folder / "metrics.csv") for folder in folders]
    assert len(tables) == 3
    means = (tables[1]["train_loss"] + tables[2]["train_loss"]) / 2
    assert np.allclose(tables[0]["train_loss"], means, rtol=1e-5)
    scales = pd.read_csv(ensemble_run.folder / "modulator.csv")
    assert len(scales) == 2 * 36
    metadata = json.loads((ensemble_run.folder / "run.json").read_text())
    assert metadata["status"] == "done" and metadata["train_chips"] == 40


def test_a_resumed_ensemble_keeps_its_finished_members(
    ensemble_run, monkeypatch, tmp_path
):
    recipe = load_recipe(ensemble_run.folder / "recipe.yaml")
    train_single_run = finetune_module.train_single_run
    seeds = []

    def train_once(member_recipe, *args, **options):
        if seeds:
            raise KeyboardInterrupt
        seeds.append(member_recipe.seed)
        return train_single_run(member_recipe, *args, **options)

    folder = tmp_path / "bars" / "001"
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        patch.setattr(finetune_module, "train_single_run", train_once)
        finetune(recipe, tmp_path)
    assert caught.value.hint == f"rsft finetune --resume {folder}"
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert [path.name for path in (folder / "members").iterdir()] == ["run-1"]
    resumed = finetune(recipe, tmp_path, resume=folder)
    assert resumed.folder == folder
    first = Bundle.load(ensemble_run.folder)
    second = Bundle.load(resumed.folder)
    assert all(
        torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors
    )


def test_an_ensemble_is_evaluated_with_crops(ensemble_run, root, tmp_path):
    bundle = Bundle.load(ensemble_run.folder)
    update = bundle.recipe.evaluate.model_copy(update={"tta": "five-crop", "margin": 8})
    recipe = bundle.recipe.model_copy(update={"evaluate": update})
    combine_bundles(recipe, load_members(ensemble_run)).save(tmp_path / "crops")
    bundles = (ensemble_run.bundle_dir, tmp_path / "crops")
    plain, with_crops = (evaluate(path, root, tmp_path / "out") for path in bundles)
    assert "means over test-time views (five-crop), as in rsft predict" in " ".join(
        with_crops.notes
    )
    assert plain.methods.keys() == with_crops.methods.keys() and plain.count == 18


def test_members_trained_on_other_data_are_not_combined(ensemble_run):
    first, second = load_members(ensemble_run)
    other = second.contract.model_copy(update={"size": 64})
    with pytest.raises(WeightsError, match="different data"):
        combine_bundles(
            first.recipe, [first, type(second)(**{**vars(second), "contract": other})]
        )


def test_without_data_no_run_folder_is_created(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, [*OVERRIDES, f"data.root={tmp_path / 'nothing'}"])
    with pytest.raises(RequestError, match=mentions("not a chip store")):
        finetune(recipe, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
