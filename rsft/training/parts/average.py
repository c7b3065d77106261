"""The exponential mean of the weights, which is validated and stored.

`torch.optim.swa_utils.AveragedModel` copies a whole model, with the frozen backbone,
and has no decay that depends on the step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Self

import torch

from rsft.models.classifier import Classifier
from rsft.recipe.schema import SemiSection
from rsft.training.parts.base import (
    Part,
    PartContext,
    StateDict,
    copy_weights,
)
from rsft.types import JsonObject

TEACHER_DECAY = 0.99
"""Decay of the mean of the weights that gives pseudo-labels, if the recipe has no
train.ema."""


class WeightAverage(Part):
    """Exponential mean of the learned tensors of a classifier over its steps.

    Args:
        classifier: the classifier in training.
        decay: weight of the earlier mean in a step. In the first steps it is (1 + t) /
            (10 + t) at most.

    Attributes:
        state: the mean of each learned tensor, by name.
    """

    name: ClassVar = "average"
    title: ClassVar = "mean of the weights"

    def __init__(self, classifier: Classifier, decay: float) -> None:
        self.classifier = classifier
        self.decay = decay
        self.state = copy_weights(classifier)

    @classmethod
    def make(cls, context: PartContext) -> Self | None:
        """Return the mean with the decay `train.ema`, or with that of a teacher."""
        recipe = context.setup.recipe
        semi = recipe.semi or SemiSection()
        decay = recipe.train.ema
        if decay is None and context.setup.pool and semi.teacher == "ema":
            decay = TEACHER_DECAY
        if decay is None:
            return None
        return cls(context.setup.classifier, decay)

    @torch.no_grad()
    def after_step(self, steps: int) -> None:
        """Add the current tensors, given the number of steps before."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        for name, tensor in self.classifier.learned_state().items():
            if not tensor.is_floating_point():  # an index, which is not trained
                continue
            mean = self.state[name].lerp(tensor, 1 - decay)
            # gamma of a pruned site
            self.state[name] = torch.where(tensor.isinf(), tensor, mean)

    @contextmanager
    def use_weights(self) -> Iterator[None]:
        """Give the classifier the mean tensors until the block ends."""
        current = copy_weights(self.classifier)
        self.classifier.load_learned_state(self.state)
        try:
            yield
        finally:
            self.classifier.load_learned_state(current)

    def finish(self) -> JsonObject:
        """Give the classifier the mean for good."""
        self.classifier.load_learned_state(self.state)
        return {}

    def state_dict(self) -> StateDict:
        """Return the mean."""
        return self.state

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the mean, on the device of the classifier."""
        device = self.classifier.theta[0].device
        self.state = {name: tensor.to(device) for name, tensor in state.items()}
