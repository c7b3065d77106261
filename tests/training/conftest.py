"""Fixtures of the tests of training."""

import pytest

from rsft.recipe.load import load_recipe
from tests.helpers.learners import open_learner


@pytest.fixture
def make_learner(recipe_file):
    def make(*overrides):
        learner = open_learner(load_recipe(recipe_file, overrides))
        # as at the start of an epoch; computing frozen features leaves evaluation mode
        learner.classifier.train()
        return learner

    return make
