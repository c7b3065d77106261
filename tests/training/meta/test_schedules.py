"""Schedules of the outer loop, and settings that nothing computes."""

import pytest

from rsft.errors import RequestError
from rsft.recipe.registries import SCHEDULES
from rsft.recipe.schema import MetaSection, Recipe
from rsft.training.meta.schedules import Alternating, Joint, outer_loop
from tests.helpers.messages import mentions


def recipe(meta=None, **peft):
    content = {
        "name": "x",
        "data": {"root": "x", "size": 32},
        "peft": {"method": "lora"} | peft,
        "meta": meta,
        "train": {"epochs": 1, "optimizer": "adamw"},
    }
    return Recipe.model_validate(content)


def test_schedules_by_name():
    assert list(SCHEDULES)[:2] == ["alternating", "joint"]
    assert Joint.is_joint and not Alternating.is_joint
    assert type(outer_loop(None)) is Alternating
    assert type(outer_loop(MetaSection(schedule="joint"))) is Joint


def test_recipes_that_are_computed():
    for content in (
        recipe(),
        recipe({}),
        recipe({"order": 1}, modulator="feature"),
        recipe({"scale_invariant_steps": True}, method="lotr"),
    ):
        Alternating().check(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (recipe(None, modulator="feature"), ("peft.modulator", "section meta")),
        (
            recipe({"scale_invariant_steps": True}, method="lotr", modulator="feature"),
            ("LoTR", "meta.scale_invariant_steps"),
        ),
        (recipe({"order": 2}), ("meta.order", "train.optimizer=sgd")),
    ],
)
def test_settings_that_nothing_computes(content, words):
    with pytest.raises(RequestError, match=mentions(*words)):
        Joint().check(content)
