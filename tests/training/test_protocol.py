import pandas as pd
import pytest

from rsft.models.bundle.bundle import Bundle
from rsft.recipe.load import load_recipe
from rsft.training import precision
from rsft.training.finetune import finetune

pytestmark = pytest.mark.slow


def test_all_options_in_one_run(recipe_file, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "has_instructions", lambda name, device: True)
    overrides = [
        "loss={name: ldam, drw_start: 0.5}",
        "head={kind: linear, init: k-shot, shots: 3}",
    ]
    overrides += [
        "train.precision=auto",
        "train.sampler=class-balanced",
        "train.decay_all=false",
    ]
    overrides += [
        "train.schedule=constant",
        "train.warmup_epochs=1",
        "train.accumulate_grad_batches=2",
    ]
    run = finetune(load_recipe(recipe_file, overrides), tmp_path)
    recipe = Bundle.load(run.folder).recipe
    assert (
        recipe.train.precision == "bf16"
        and load_recipe(run.folder / "recipe.yaml") == recipe
    )
    assert run.metadata["precision"] == "bf16"
    learning_rates = pd.read_csv(run.folder / "metrics.csv")["lr"]
    highest = pytest.approx(0.02 * (8 * 2 / 128) ** 0.5, rel=1e-4)
    assert learning_rates[0] < learning_rates[1] == learning_rates[2] == highest
