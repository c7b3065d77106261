"""Fixtures of the tests of training."""

import pytest

from rsft.recipe.load import load_recipe
from rsft.training import FineTuningModule


@pytest.fixture
def make_learner(recipe_file):
    def make(*overrides):
        learner = FineTuningModule.from_recipe(
            load_recipe(recipe_file, overrides)
        ).learner
        # as at the start of an epoch; computing frozen features leaves evaluation mode
        learner.classifier.train()
        return learner

    return make
