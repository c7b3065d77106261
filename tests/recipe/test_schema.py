"""A key without an effect is a fault."""

import pytest

from rsft.errors import RecipeError
from rsft.recipe.load import dump_recipe, load_recipe
from rsft.recipe.registries import LOSSES
from tests.helpers.files import written

BASE = "data: {root: x, size: 32}\ntrain: {epochs: 1}\n"


def recipe(folder, text):
    return load_recipe(written(folder / "x.yaml", BASE + text + "\n"))


@pytest.mark.parametrize("loss", list(LOSSES))
def test_every_loss_loads_dumps_and_loads(tmp_path, loss):
    loaded = recipe(tmp_path, f"loss: {{name: {loss}}}")
    text = dump_recipe(loaded)
    assert load_recipe(written(tmp_path / "y.yaml", text)) == loaded
    assert loaded.loss.build() == LOSSES[loss]()
    assert ("  gamma:" in text) == (loss == "focal")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "loss: {name: ce, tau: 1}",
            "loss.tau: found 1; nothing: the loss ce takes no keys",
        ),
        (
            "loss: {name: ldam, weight: 1}",
            "the loss ldam takes margin, margin_scale, drw_start, beta",
        ),
        (
            "loss: {name: ldam, beta: 0.9}",
            (
                "loss.beta: found 0.9; nothing: without loss.drw_start LDAM weights no"
                " class"
            ),
        ),
        (
            "head: {kind: linear, logit_scale: 25}",
            "head.logit_scale: found 25.0; nothing: a linear head has no scale",
        ),
        (
            "head: {init: random, shots: 1}",
            "head.shots: found 1; nothing: the initialization random uses no shots",
        ),
        (
            "evaluate: {margin: 8}",
            (
                "evaluate.margin: found 8; nothing: without crops (evaluate.tta) there"
                " is no margin"
            ),
        ),
        (
            "evaluate: {tta: mirror, margin: 8}",
            "evaluate.margin: found 8; nothing: without crops (evaluate.tta) there",
        ),
    ],
)
def test_key_without_an_effect_is_a_fault(tmp_path, text, words):
    with pytest.raises(RecipeError) as caught:
        recipe(tmp_path, text)
    assert words in str(caught.value)
