import sqlite3

import pytest

from rsft.errors import RequestError
from rsft.recipe.load import load_recipe
from rsft.training.loggers import base
from rsft.training.loggers.base import open_tracker, require_trackers


def test_mlflow_stores_recipe_and_numbers_and_continues_a_record(recipe_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = pytest.importorskip("mlflow").MlflowClient
    recipe = load_recipe(recipe_file, ["track.to=[mlflow]", "track.project=ships"])
    folder = tmp_path / "runs/bars/001"
    folder.mkdir(parents=True)
    first = open_tracker("mlflow", recipe, folder)
    first.log(50, {"train/loss": 1.5})
    first.close(failed=True)
    resumed = open_tracker("mlflow", recipe, folder, record_id=first.id)
    resumed.log(100, {"train/loss": 0.5, "modulator/blocks.3.q": 1.25})
    resumed.close(failed=False)
    database = tmp_path / "mlflow.db"
    stored = client(f"sqlite:///{database}").get_run(first.id)
    assert resumed.id == first.id and stored.info.status == "FINISHED" and stored.info.run_name == "bars/001"
    assert stored.data.params["meta.lr"] == "0.05" and stored.data.params["peft.positions"] == "qkvo12"
    assert stored.data.metrics == {"train/loss": 0.5, "modulator/blocks.3.q": 1.25}
    rows = sqlite3.connect(database).execute("select step, value from metrics where key = 'train/loss' order by step")
    assert rows.fetchall() == [(50, 1.5), (100, 0.5)]


def test_wandb_offline(recipe_file, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = open_tracker("wandb", load_recipe(recipe_file), tmp_path)
    run.log(1, {"train/loss": 1.5})
    run.close(failed=False)
    assert list(tmp_path.glob(f"wandb/offline-run-*-{run.id}/run-{run.id}.wandb"))


def test_a_missing_package_is_reported_before_the_run(recipe_file, monkeypatch):
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    require_trackers(load_recipe(recipe_file))
    with pytest.raises(RequestError, match=r"wandb needs wandb .* pip install 'rsft\[track\]'"):
        require_trackers(load_recipe(recipe_file, ["track.to=[tensorboard, wandb]"]))
