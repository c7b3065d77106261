"""Trials of sweep files, and their ids, which later versions keep."""

import pytest
from pydantic import Field

from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.schema import Recipe, TrainSection
from rsft.study.trials import Trial, changed_values


@pytest.fixture
def trial(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text("data: {root: x, size: 32}\ntrain: {epochs: 1}\n")
    return lambda *overrides: Trial({}, load_recipe(path, overrides))


def test_defaults_do_not_count(trial, tmp_path):
    assert changed_values(trial().recipe) == {
        "data": {"root": "x", "size": 32},
        "train": {"epochs": 1},
    }
    written = (
        "seed=0",
        "meta=null",
        "peft.method=lora",
        "loss.tau=1",
        "train.lr=0.01",
        "backbone.blocks=null",
    )
    assert trial(*written).id == trial("name=other", "track.to=[]").id == trial().id
    complete = tmp_path / "complete.yaml"
    complete.write_text(dump_recipe(trial("peft.rank=3").recipe))
    assert Trial({}, load_recipe(complete)).id == trial("peft.rank=3").id


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "meta={}",
        "peft.rank=3",
        "peft.method=bitfit",
        "loss.tau=2",
        "train.lr=1",
        "data.root=y",
        "meta.lr=1",
    ],
)
def test_every_other_value_counts(trial, override):
    assert (
        trial(override).id != trial().id
        and changed_values(trial("meta={}").recipe)["meta"] == {}
    )


def test_a_new_key_with_a_default_keeps_the_id(trial):
    class LaterTrain(TrainSection):
        patience_mode: str = Field(
            default="max", description="a key of a later version"
        )

    class LaterRecipe(Recipe):
        train: LaterTrain

    values = trial("peft.rank=3").recipe.model_dump()
    later = LaterRecipe.model_validate(values)
    assert (
        later.train.patience_mode == "max"
        and Trial({}, later).id == trial("peft.rank=3").id
    )
    values["train"]["patience_mode"] = "min"
    assert Trial({}, LaterRecipe.model_validate(values)).id != trial("peft.rank=3").id
