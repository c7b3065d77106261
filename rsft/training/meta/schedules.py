"""The schedules of the outer loop of MetaPEFT.

A schedule makes the steps of both loops. This module imports torch only when it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rsft.errors import RequestError
from rsft.peft.methods.builtin import LoTR
from rsft.recipe.registries import SCHEDULES, Schedule

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from rsft.models.classifier import Classifier
    from rsft.recipe.schema import MetaSection, Recipe, TrainSection
    from rsft.training.meta.bilevel import BiLevelLoop, MetaSplitter
    from rsft.types import Indices


@SCHEDULES.register
class Alternating:
    """Inner and outer steps take turns."""

    name: ClassVar = "alternating"
    title: ClassVar = "inner and outer steps take turns"
    unneeded: ClassVar[dict[str, str]] = {}
    is_joint: ClassVar = False

    def check(self, recipe: Recipe) -> None:
        """Raise RequestError if the recipe has settings that nothing computes."""
        meta = recipe.meta
        method = recipe.peft.build()
        if getattr(method, "modulator", "site") == "feature":
            if not meta:
                raise RequestError(
                    "nothing learns factors of features",
                    "peft.modulator",
                    "add the section meta, or leave peft.modulator out",
                )
            if isinstance(method, LoTR) and meta.scale_invariant_steps:
                raise RequestError(
                    "the core of LoTR is not linear in the factors of output features",
                    "meta.scale_invariant_steps",
                    "leave it out, or use peft.modulator=site",
                )
        if meta and meta.order == 2 and recipe.train.optimizer != "sgd":
            raise RequestError(
                "a second-order outer step unrolls a step of SGD",
                "meta.order",
                "use meta.order=1, or train.optimizer=sgd",
            )

    def make_loops(
        self,
        classifier: Classifier,
        inner_optimizer: Optimizer,
        meta: MetaSection | None,
        train: TrainSection,
    ) -> BiLevelLoop:
        """Return the loops of MetaPEFT, with Adam for gamma."""
        import torch

        from rsft.training.meta.bilevel import BiLevelLoop
        from rsft.training.optim.optimizers import is_fused

        outer_optimizer = None
        if meta:
            gamma = classifier.adapted.gamma
            fused = is_fused(gamma[0].device)
            outer_optimizer = torch.optim.Adam(gamma, lr=meta.lr, fused=fused)
        return BiLevelLoop(classifier, inner_optimizer, outer_optimizer, meta, train)

    def make_splitter(
        self, labels: Indices, meta: MetaSection, batch_size: int, seed: int
    ) -> MetaSplitter:
        """Return the sampler of the meta subset."""
        from rsft.training.meta.bilevel import MetaSplitter

        return MetaSplitter(labels, meta, batch_size, seed)


@SCHEDULES.register
class Joint(Alternating):
    """One pass gives the gradients of both loops."""

    name: ClassVar = "joint"
    title: ClassVar = "one pass gives both gradients"
    is_joint: ClassVar = True


def outer_loop(meta: MetaSection | None) -> Schedule:
    """Return the schedule of a recipe; without a modulator, one without outer steps."""
    return SCHEDULES[meta.schedule if meta else "alternating"]()
