"""Recipes that the code of the paper cannot train are refused."""

import pytest

from rsft.errors import RecipeError, RequestError
from rsft.plugins.authors_schedule.schedule import Metalora
from rsft.recipe.load import load_recipe
from rsft.recipe.registries import SCHEDULES
from rsft.recipe.schema import Recipe
from tests.helpers.messages import mentions

BASE = {
    "name": "x",
    "data": {"root": "x", "size": 32},
    "peft": {"method": "lora"},
    "meta": {"schedule": "metalora"},
    "train": {"epochs": 1, "optimizer": "sgd"},
}


def recipe(**changes):
    sections = {
        section: BASE.get(section, {}) | changes.get(section, {})
        for section in ("data", "peft", "meta", "train")
    }
    return Recipe.model_validate(BASE | sections)


def test_the_plug_in_registers_it():
    assert SCHEDULES["metalora"] is Metalora and not Metalora.is_joint


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"peft": {"method": "lotr"}},
        {"train": {"accumulate_grad_batches": 1}},
        {"peft": {"method": "adapter", "modulator": "feature"}},
    ],
)
def test_what_the_code_trains(changes):
    Metalora().check(recipe(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft": {"method": "adapter"}}, ("meta.schedule", "modulator=site")),
        (
            {"peft": {"method": "lora", "modulator": "feature"}},
            ("meta.schedule", "feature"),
        ),
        ({"train": {"optimizer": "adamw"}}, ("train.optimizer", "use sgd")),
        (
            {"train": {"accumulate_grad_batches": 2}},
            ("train.accumulate_grad_batches", "use 1"),
        ),
        ({"train": {"last_blocks": 1}}, ("train.last_blocks", "leave the key out")),
    ],
)
def test_what_the_code_has_not(changes, words):
    with pytest.raises(RequestError, match=mentions(*words)):
        Metalora().check(recipe(**changes))


@pytest.mark.parametrize("key", ["order=2", "decay=cosine", "resplit_every=3"])
def test_keys_without_an_effect_are_faults(tmp_path, key):
    path = tmp_path / "r.yaml"
    path.write_text(
        "data: {root: x, size: 32}\nmeta: {schedule: metalora}\n"
        "train: {epochs: 1, optimizer: sgd}\n"
    )
    load_recipe(path)
    with pytest.raises(RecipeError, match=mentions("no such setting")):
        load_recipe(path, [f"meta.{key}"])
