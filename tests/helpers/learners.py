"""Learners of recipes, without a run folder."""

from rsft.training.assembly import make_learner
from rsft.training.init.start_bundle import StartBundle
from rsft.training.learner import Learner
from rsft.training.setup import initialize_weights, seed_generators, set_up


def open_learner(recipe) -> Learner:
    """Open the data of a recipe, build its network, and initialize the head."""
    seed_generators(recipe.seed)
    setup = set_up(recipe, StartBundle.open(recipe))
    initialize_weights(setup)
    return make_learner(setup)
