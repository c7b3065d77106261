"""The outer loop of a run: its learning rate, its chips, and when a step is due."""

import logging
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from rsft.data.loading.batches import Batch, EpochBatches
from rsft.data.loading.samplers import shard_loss_weight
from rsft.models.devices import copy_batch
from rsft.recipe.schema import MetaSection, TrainSection
from rsft.training.meta.bilevel import BiLevelLoop, MetaSplitter
from rsft.training.objective import Objective
from rsft.training.optim.optimizers import half_cosine
from rsft.training.parts.base import Moment, Part, PartContext
from rsft.training.processes import is_rank_zero
from rsft.types import Indices

_log = logging.getLogger(__name__)


@dataclass
class OuterSteps(Part):
    """Draws the batches of outer steps.

    Attributes:
        loops: takes the steps.
        splitter: draws the meta subsets.
        batches: the training chips.
    """

    name: ClassVar = "outer"
    title: ClassVar = "outer loop"

    loops: BiLevelLoop
    splitter: MetaSplitter
    batches: EpochBatches
    meta: MetaSection
    train: TrainSection

    @classmethod
    def make(cls, context: PartContext) -> Self | None:
        """Return the outer steps of the section `meta`."""
        meta = context.setup.recipe.meta
        if not context.splitter or not meta:
            return None
        train = context.setup.recipe.train
        part = cls(context.loops, context.splitter, context.batches, meta, train)
        if is_rank_zero() and not part.has_steps():
            _log.warning(
                "the scales stay as they are: the run ends before the first outer step"
                " (meta.outer_every, meta.warmup)"
            )
        return part

    def prepare(self, moment: Moment, objective: Objective) -> Objective:
        """Set the learning rate, and add the batches of an outer step that is due."""
        epoch, index, progress = moment
        # without a warm-up: before the first inner step the gradient of gamma is 0, and
        # the first outer steps can keep a run from diverging
        decay = 1.0 if self.meta.decay == "constant" else half_cosine(progress)
        assert self.loops.outer_optimizer
        for group in self.loops.outer_optimizer.param_groups:
            group["lr"] = self.meta.lr * decay
        if not self.is_due(epoch, index):
            return objective
        chips = self.splitter.meta_batch(epoch, index)
        trials = [
            (self._load(x, epoch), shard_loss_weight(len(x), self.batches.shard))
            for x in self.splitter.trial_batches(epoch)
        ]
        return replace(
            objective,
            outer_weight=shard_loss_weight(len(chips), self.batches.shard),
            outer_batch=self._load(chips, epoch),
            outer_chips=chips,
            trial_batches=trials,
        )

    def is_due(self, epoch: int, index: int) -> bool:
        """Return whether an outer step follows an inner batch."""
        steps = self.batches.steps(epoch)
        accumulated = self.train.accumulate_grad_batches
        return self.splitter.is_due(epoch, index, steps, accumulated)

    def has_steps(self) -> bool:
        """Return whether the whole run contains an outer step."""
        for epoch in range(self.train.epochs):
            for index in range(self.batches.steps(epoch)):
                if self.is_due(epoch, index):
                    return True
        return False

    def _load(self, chips: Indices, epoch: int) -> Batch:
        """Return the part of this process of a batch of chips (B,), on its device."""
        return copy_batch(self.batches.load(chips, epoch), self.loops.theta[0].device)
