"""What a part of a run may do, and the parts that a recipe asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from torch import Tensor

from rsft.models.classifier import Classifier
from rsft.peft.modules.adapter_module import NamedTensors
from rsft.recipe.schema import Recipe
from rsft.training.objective import Objective
from rsft.types import JsonObject

if TYPE_CHECKING:
    from rsft.data.loading.batches import EpochBatches
    from rsft.training.meta.bilevel import BiLevelLoop, MetaSplitter
    from rsft.training.runs.writer import Run
    from rsft.training.setup import TrainingSetup
    from rsft.types import Indices

StateDict = dict[str, Any]
"""What changes during training, for a checkpoint."""

Autocast = Callable[[], AbstractContextManager[Any]]
"""Returns the context of a forward pass."""


class Moment(NamedTuple):
    """A step of a run.

    Attributes:
        epoch: number of the epoch from 0.
        batch: number of the batch in its epoch from 0.
        progress: finished share of the training.
    """

    epoch: int
    batch: int
    progress: float


@dataclass
class PartContext:
    """What parts are made of.

    Attributes:
        setup: recipe, data and network; the classifier has its first weights.
        loops: takes the steps.
        batches: the training chips.
        class_counts: training chips of each class, as the loss counts them (C,).
        added: indices of the training chips that were added to the store (M,).
        splitter: sampler of the meta subset; None without an outer loop.
        autocast: returns the context of a forward pass.
        parts: the parts that are made already.
    """

    setup: TrainingSetup
    loops: BiLevelLoop
    batches: EpochBatches
    class_counts: Tensor
    added: Indices
    splitter: MetaSplitter | None
    autocast: Autocast
    parts: list[Part] = field(default_factory=list)


class Part:
    """Base class of parts; subclasses override the hooks that they need.

    What a part does in a step is a function of (seed, epoch, batch) and its state, so
    that a run can be resumed at any step.

    Attributes:
        name: the part in `train.parts`, and its state in a checkpoint.
        title: the part in print.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise RequestError if keys of the recipe contradict each other."""

    @classmethod
    def make(cls, context: PartContext) -> Self | None:
        """Return the part of a run; None if its recipe does not ask for it."""
        return cls()

    def prepare(self, moment: Moment, objective: Objective) -> Objective:
        """Return the losses of a step, with what this part changes."""
        return objective

    def after_step(self, steps: int) -> None:
        """Handle a finished step; `steps` is the number of steps before it."""

    def use_weights(self) -> AbstractContextManager[None]:
        """Return a context in which the classifier has the weights that are stored."""
        return nullcontext()

    def is_done(self) -> bool:
        """Return whether the training may end before its last epoch."""
        return False

    def end_epoch(self, run: Run, epoch: int) -> None:
        """Write what the part has counted in an epoch."""

    def finish(self) -> JsonObject:
        """Give the classifier its final weights, and return entries of run.json."""
        return {}

    def state_dict(self) -> StateDict:
        """Return the state for a checkpoint."""
        return {}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the state of a checkpoint."""


def copy_weights(classifier: Classifier) -> NamedTensors:
    """Return copies of the learned tensors."""
    learned = classifier.learned_state()
    return {name: tensor.detach().clone() for name, tensor in learned.items()}


def make_parts(kinds: Sequence[type[Part]], context: PartContext) -> list[Part]:
    """Make the parts of a run in the order of their classes."""
    for kind in kinds:
        part = kind.make(context)
        if part is not None:
            context.parts.append(part)
    return context.parts
