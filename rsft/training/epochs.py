"""The number of epochs that makes enough steps of few chips."""

import math
from pathlib import Path

from rsft.data.chips.folds import open_store
from rsft.recipe.schema import Recipe


def count_epochs(steps: int, chips: int, batch_size: int) -> int:
    """Return the whole epochs that make at least so many steps.

    Args:
        steps: number of steps.
        chips: training chips, which each epoch draws once.
        batch_size: chips in a step.
    """
    steps_per_epoch = math.ceil(chips / batch_size)
    return math.ceil(steps / max(1, steps_per_epoch))


def resolve_epochs(recipe: Recipe, chips: int) -> Recipe:
    """Return a recipe with enough epochs for `train.min_steps`.

    The warm-up and the time between validations keep their share of the training. A
    resolved recipe stays as it is.

    Args:
        recipe: the recipe.
        chips: number of training chips.
    """
    train = recipe.train
    if train.min_steps is None:
        return recipe
    step_size = train.batch_size * train.accumulate_grad_batches
    epochs = count_epochs(train.min_steps, chips, step_size)
    if epochs <= train.epochs:
        return recipe
    factor = epochs / train.epochs
    warmup = train.warmup_epochs * factor
    every = round(recipe.evaluate.every * factor)
    recipe = recipe.with_keys("train", epochs=epochs, warmup_epochs=warmup)
    return recipe.with_keys("evaluate", every=every)


def count_training_chips(recipe: Recipe) -> int:
    """Return the number of training chips of a recipe, without those of its fold.

    Raises:
        RequestError: the folder is not a chip store.
    """
    store = open_store(Path(recipe.data.root), recipe.data.fold)
    return len(store.split("train"))
