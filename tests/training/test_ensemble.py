import json

import numpy as np
import pandas as pd
import pytest
import torch

from rsft.errors import Interrupted, RequestError, WeightsError
from rsft.evaluation.evaluate import evaluate
from rsft.models.averaging import Ensemble
from rsft.models.bundle.bundle import Bundle, combine
from rsft.models.factory import load_adapted, load_classifier
from rsft.recipe.load import load_recipe
from rsft.training import ensemble
from rsft.training import finetune as job
from rsft.training.ensemble import finetune, member_seed

WISHES = ["train.runs=2", "train.epochs=2", "meta.warmup=0"]
IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def averaged(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged")
    text = f"data: {{root: {root}, size: 32, augment: sar}}\nmeta: {{every: 2, lr: 0.05}}\n"
    (folder / "bars.yaml").write_text(text + "train: {epochs: 3, batch_size: 8, lr: 0.02}\n")
    return finetune(load_recipe(folder / "bars.yaml", WISHES), folder / "runs")


def members(run):
    return [Bundle.load(run.folder / "members" / f"run-{number}" / "001") for number in (1, 2)]


def test_seeds():
    seeds = [member_seed(7, number) for number in range(5)]
    assert seeds[0] == 7 and len(set(seeds)) == 5 and max(seeds) < 2**32


@torch.no_grad()
def test_the_bundle_averages_its_runs(averaged):
    bundle, alone = Bundle.load(averaged.folder), members(averaged)
    assert bundle.recipe.train.runs == 2 and bundle.confidence is not None
    assert [each.recipe.seed for each in alone] == [0, member_seed(0, 1)]
    loaded = load_classifier(bundle, "cpu")
    assert isinstance(loaded, Ensemble)
    wanted = torch.stack([load_classifier(each, "cpu")(IMAGES).softmax(1) for each in alone]).mean(0)
    assert torch.allclose(loaded(IMAGES).softmax(1), wanted, atol=1e-4)
    second = load_adapted(bundle, "cpu", run=1).learned_state()
    assert all(torch.equal(second[key], alone[1].tensors[key]) for key in second)


def test_its_tables_are_means(averaged):
    tables = [pd.read_csv(each / "metrics.csv") for each in (averaged.folder, *sorted(averaged.folder.glob("*/*/001")))]
    assert len(tables) == 3
    means = (tables[1]["train_loss"] + tables[2]["train_loss"]) / 2
    assert np.allclose(tables[0]["train_loss"], means, rtol=1e-5)
    scales = pd.read_csv(averaged.folder / "modulator.csv")
    assert len(scales) == 2 * 36
    facts = json.loads((averaged.folder / "run.json").read_text())
    assert facts["status"] == "done" and facts["train_chips"] == 40


def test_it_goes_on_where_it_ended(averaged, monkeypatch, tmp_path):
    recipe = load_recipe(averaged.folder / "recipe.yaml")
    real, calls = job.finetune, []

    def once(own, *args, **options):
        if calls:
            raise KeyboardInterrupt
        calls.append(own.seed)
        return real(own, *args, **options)

    folder = tmp_path / "bars" / "001"
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        patch.setattr(ensemble.single_run, "finetune", once)
        finetune(recipe, tmp_path)
    assert caught.value.fix == f"rsft finetune --resume {folder}"
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert [path.name for path in (folder / "members").iterdir()] == ["run-1"]
    done = finetune(recipe, tmp_path, resume=folder)
    assert done.folder == folder
    first, second = (Bundle.load(each.folder) for each in (averaged, done))
    assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)


def test_it_is_evaluated_with_crops(averaged, root, tmp_path):
    bundle = Bundle.load(averaged.folder)
    update = bundle.recipe.evaluate.model_copy(update={"tta": "five-crop", "margin": 8})
    recipe = bundle.recipe.model_copy(update={"evaluate": update})
    combine(recipe, members(averaged)).save(tmp_path / "crops")
    found = [evaluate(each, root, tmp_path / "out") for each in (averaged.bundle, tmp_path / "crops")]
    assert "averaged over 2 runs" in " ".join(found[0].notes)
    assert "averaged over crops (five-crop)" in " ".join(found[1].notes)
    assert found[0].methods.keys() == found[1].methods.keys() and found[1].count == 18


def test_runs_of_other_data(averaged):
    first, second = members(averaged)
    other = second.contract.model_copy(update={"size": 64})
    with pytest.raises(WeightsError, match="other data"):
        combine(first.recipe, [first, type(second)(**{**vars(second), "contract": other})])


def test_without_data_there_is_no_run(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, [*WISHES, f"data.root={tmp_path / 'nothing'}"])
    with pytest.raises(RequestError, match="there is no chip store"):
        finetune(recipe, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
