"""The schedule "metalora". This module imports torch only when it makes loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rsft.errors import RequestError

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from rsft.models.classifier import Classifier
    from rsft.recipe.schema import MetaSection, Recipe, TrainSection
    from rsft.training.meta.bilevel import BiLevelLoop, MetaSplitter
    from rsft.types import Indices

_HINT = "or choose another meta.schedule"
_KEYS = (
    "order",
    "decay",
    "scale_invariant_steps",
    "sampling",
    "holdout",
    "prune_below",
    "resplit_every",
)


_METHODS = {
    ("lora", "site"),
    ("lotr", "site"),
    ("adapter", "feature"),
    ("adaptformer", "feature"),
}
"""PEFT methods that metalora supports, each with what its modulator learns."""


class Metalora:
    """One outer step per epoch, as in the code of the paper."""

    name: ClassVar = "metalora"
    title: ClassVar = "one outer step per epoch, as in the authors' code"
    is_joint: ClassVar = False
    unneeded: ClassVar = dict.fromkeys(
        _KEYS, "nothing: the authors' code has no such setting"
    )

    def check(self, recipe: Recipe) -> None:
        """Raise RequestError if a recipe has what the code of metalora has not."""
        train = recipe.train
        modulator = recipe.peft.settings.get("modulator")
        if (recipe.peft.method, modulator) not in _METHODS:
            raise RequestError(
                "metalora learns a scale for each site of LoRA and LoTR, and a factor"
                " for each feature of adapters",
                "meta.schedule",
                "use peft.modulator=site with lora or lotr, feature with adapter or"
                f" adaptformer, {_HINT}",
            )
        if train.optimizer != "sgd":
            raise RequestError(
                "both optimizers of metalora are SGD",
                "train.optimizer",
                f"use sgd, {_HINT}",
            )
        if train.accumulate_grad_batches > 1:
            raise RequestError(
                "an outer step of metalora would drop the gradients of an unfinished"
                " step",
                "train.accumulate_grad_batches",
                f"use 1, {_HINT}",
            )
        if train.last_blocks is not None:
            raise RequestError(
                "metalora learns the scales of all sites",
                "train.last_blocks",
                f"leave the key out, {_HINT}",
            )

    def make_loops(
        self,
        classifier: Classifier,
        inner_optimizer: Optimizer,
        meta: MetaSection | None,
        train: TrainSection,
    ) -> BiLevelLoop:
        """Return the loops of metalora."""
        from rsft.plugins.authors_schedule.loops import MetaloraLoop

        assert meta is not None
        return MetaloraLoop(classifier, inner_optimizer, meta, train)

    def make_splitter(
        self, labels: Indices, meta: MetaSection, batch_size: int, seed: int
    ) -> MetaSplitter:
        """Return the sampler of trial batches and outer batches."""
        from rsft.plugins.authors_schedule.loops import MetaloraSplitter

        return MetaloraSplitter(labels, meta, batch_size, seed)
