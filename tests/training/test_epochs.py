import pytest

from rsft.recipe.library import find_recipe
from rsft.recipe.load import load_recipe
from rsft.training.epochs import count_epochs, resolve_epochs


def few_steps(*overrides):
    return load_recipe(find_recipe("small_network"), ["data.root=chips", *overrides])


@pytest.mark.parametrize(
    ("chips", "epochs"), [(1, 1000), (32, 1000), (33, 500), (640, 50), (10_000, 50)]
)
def test_few_chips_have_more_epochs(chips, epochs):
    recipe = resolve_epochs(few_steps(), chips)
    assert recipe.train.epochs == epochs
    assert recipe.train.warmup_epochs == pytest.approx(epochs / 50)
    assert recipe.evaluate.every == epochs / 5
    assert resolve_epochs(recipe, chips) == recipe


def test_a_step_takes_all_accumulated_batches():
    recipe = few_steps("train.accumulate_grad_batches=2")
    assert resolve_epochs(recipe, 64).train.epochs == 1000


def test_without_the_key_a_recipe_stays_as_it_is():
    recipe = few_steps("train.min_steps=null")
    assert resolve_epochs(recipe, 1) == recipe


def test_epochs_of_the_command_line_hold():
    recipe = load_recipe(find_recipe("small_network"), ["data.root=chips"])
    assert recipe.train.min_steps == 1000
    keys = ["data.root=chips", "train.epochs=3"]
    fixed = load_recipe(find_recipe("small_network"), keys)
    assert fixed.train.min_steps is None and fixed.train.epochs == 3


def test_epochs_are_whole():
    assert count_epochs(9, chips=40, batch_size=32) == 5
