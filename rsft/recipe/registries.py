"""The components that a recipe names: what each kind offers, and where they are.

rsft's own components register themselves in the module named last. A component of
another package is found through the entry-point group named second. PEFT methods have
their registry in `rsft.peft.methods.registry`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from rsft.utils.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from rsft.types import Indices

LossFunction = Callable[["Tensor", "Tensor"], "Tensor"]
"""Logits (B, C) and labels (B,) -> scalar, the mean over the batch."""


class LossConfig(Protocol):
    """A loss: a frozen dataclass whose fields are keys of the section `loss`.

    Attributes:
        name: the loss in recipes.
        title: the loss in print.
        adjusts_logits: optional; whether the loss is cross entropy of logits that are
            adjusted to the class prior. Pseudo-labels then have the same loss, with the
            prior of their own; with other losses they have cross entropy.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    def make(self, class_counts: Tensor, drawn_counts: Tensor) -> LossFunction:
        """Make the loss function.

        A loss that does not use the class prior may leave out `drawn_counts`.

        Args:
            class_counts: different training chips of each class (C,), float, at least
                1.
            drawn_counts: chips of each class that the sampler is expected to draw in an
                epoch (C,), float, above 0. They are proportional to the class prior of
                the batches.

        Returns:
            A function of logits (B, C) and labels (B,).
        """


class Sampler(Protocol):
    """A way to draw chips for training.

    Attributes:
        name: the sampler in recipes.
        title: the sampler in print, such as "drawn with equal class probabilities".
        exponent: optional; the q of a sampler that draws a class of n chips with a
            probability proportional to n^q. Without it, q is 1: classes are drawn as
            often as they occur.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    def draw(
        self, labels: Indices, members: Indices, size: int, rng: np.random.Generator
    ) -> Indices:
        """Return the chips of an epoch or batch, in order.

        Args:
            labels: class of every training chip (N,).
            members: indices of the chips that may be drawn (M,).
            size: number of chips to draw, at most M.
            rng: the only source of randomness.

        Returns:
            Indices into the training chips (size,).
        """


class Component(Protocol):
    """A component of which a recipe needs only the name.

    Attributes:
        name: the component in recipes.
        title: the component in print.
    """

    name: ClassVar[str]
    title: ClassVar[str]


LOSSES: Registry[type[LossConfig]] = Registry(
    "loss", "rsft.losses", "rsft.training.optim.losses"
)
"""All losses by name."""

SAMPLERS: Registry[type[Sampler]] = Registry(
    "sampler", "rsft.samplers", "rsft.data.loading.samplers"
)
"""All samplers by name."""


def sampling_exponent(sampler: str) -> float:
    """Return the q of a sampler: a class of n chips is drawn as often as n^q."""
    return float(getattr(SAMPLERS[sampler], "exponent", 1.0))


TRACKERS: Registry[type[Component]] = Registry(
    "tracker", "rsft.trackers", "rsft.training.trackers"
)
"""All trackers by name. `rsft.training.trackers.Tracker` says what a tracker must
offer."""


class Schedule(Protocol):
    """A schedule of the outer loop.

    Attributes:
        name: the schedule in recipes.
        title: the schedule in print.
        unneeded: keys of the section `meta` without an effect, each with the message
            for a recipe that sets it.
        is_joint: whether an outer step shares its pass with an inner step.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    is_joint: ClassVar[bool]
    unneeded: ClassVar[dict[str, str]]

    def check(self, recipe: Any) -> None:
        """Raise RequestError if a recipe has what the schedule has not."""

    def make_loops(
        self, classifier: Any, inner_optimizer: Any, meta: Any, train: Any
    ) -> Any:
        """Return the steps of both loops; the arguments are those of `BiLevelLoop`."""

    def make_splitter(
        self, labels: Indices, meta: Any, batch_size: int, seed: int
    ) -> Any:
        """Return what draws the chips of outer steps, and says when one is due."""


SCHEDULES: Registry[type[Schedule]] = Registry(
    "schedule", "rsft.schedules", "rsft.training.meta.schedules"
)
"""All schedules of the outer loop by name."""


PARTS: Registry[type[Component]] = Registry(
    "training part", "rsft.training_parts", "rsft.recipe.registries"
)
"""Training parts of other packages by name.

`rsft.training.parts.base.Part` says what a part offers.
"""
