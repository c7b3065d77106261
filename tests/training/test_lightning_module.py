import pandas as pd
import pytest
import torch
from lightning import Trainer

from rsft.errors import RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.recipe.load import load_recipe
from rsft.training import FineTuningModule
from rsft.training.finetune import finetune


@pytest.mark.parametrize("key", ["train.ema=0.9", "data.unlabeled=x"])
def test_a_mean_of_the_weights_is_refused(recipe_file, key):
    with pytest.raises(RequestError, match="mean") as caught:
        FineTuningModule.from_recipe(load_recipe(recipe_file, [key]))
    assert (
        caught.value.location == key.partition("=")[0]
        and "rsft finetune" in caught.value.hint
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize(("accumulated", "blocks"), [(1, "[]"), (2, "[1]")])
def test_lightning_takes_the_steps_of_a_run(recipe_file, tmp_path, accumulated, blocks):
    overrides = [
        f"train.accumulate_grad_batches={accumulated}",
        f"head.earlier_blocks={blocks}",
    ]
    recipe = load_recipe(recipe_file, overrides)
    run = finetune(recipe, tmp_path).folder
    module = FineTuningModule.from_recipe(recipe)
    options = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_epochs=3,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(module)
    row = pd.read_csv(run / "metrics.csv").iloc[-1]
    measures = {name: float(value) for name, value in trainer.logged_metrics.items()}
    for name in ("train_loss", "meta_loss", "val_loss", "val_macro", "val_tail"):
        assert abs(measures[name] - row[name]) < 1e-4, name
    learned = module.classifier.learned_state()
    assert all(
        torch.equal(learned[key], value)
        for key, value in Bundle.load(run).tensors.items()
    )
    checkpoint = next((tmp_path / "checkpoints").glob("*.ckpt"))
    outer_steps = 4 // accumulated  # Lightning counts the steps of both optimizers
    assert trainer.global_step == row["step"] // accumulated + outer_steps
    assert (
        "classifier.adapted.modulator.gamma"
        in torch.load(checkpoint, weights_only=True)["state_dict"]
    )
