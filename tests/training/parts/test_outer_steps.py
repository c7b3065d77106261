"""The period of outer steps."""

import pandas as pd
import pytest

from rsft.recipe.load import load_recipe
from rsft.training.finetune import finetune

pytestmark = pytest.mark.slow


def test_outer_steps_of_epochs_that_are_shorter_than_their_period(
    recipe_file, tmp_path, caplog
):
    """Few chips give few batches per epoch; without outer steps, the scales would stay
    as they were, without a word."""
    overrides = [
        "meta.outer_every=10",
        "meta.warmup=0",
        "meta.lr=0.5",
        "train.epochs=5",
    ]
    run = finetune(load_recipe(recipe_file, overrides), tmp_path / "runs")
    scales = pd.read_csv(run.folder / "modulator.csv")
    spread = scales.groupby("epoch")["value"].apply(
        lambda values: abs(values - 1).max()
    )
    assert (
        spread.iloc[0] == 0 and spread.iloc[-1] > 0 and "scales stay" not in caplog.text
    )
    finetune(
        load_recipe(recipe_file, [*overrides, "train.epochs=1"]), tmp_path / "short"
    )
    assert "the scales stay as they are" in caplog.text
