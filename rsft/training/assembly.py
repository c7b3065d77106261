"""Network, chips, losses and parts of a run, combined for its training."""

import logging
from functools import cache, partial
from typing import cast

import numpy as np
import torch

from rsft.data.imagery.augmentation import Augmentation
from rsft.data.loading.batches import BatchSource, EpochBatches
from rsft.data.loading.samplers import SINGLE_PROCESS, ProcessShard
from rsft.recipe.registries import PARTS, sampling_exponent
from rsft.recipe.schema import Recipe
from rsft.training.init.prefix_cache import CachedPrefixTokens, can_cache_prefix
from rsft.training.learner import Learner
from rsft.training.meta.bilevel import StepSettings, outer_batch_size
from rsft.training.meta.schedules import outer_loop
from rsft.training.optim.optimizers import build_inner_optimizer, make_losses
from rsft.training.parts.added_chips import (
    AddedChips,
    count_repeats,
    find_added_chips,
    repeat_added_chips,
)
from rsft.training.parts.average import WeightAverage
from rsft.training.parts.base import Part, PartContext, make_parts
from rsft.training.parts.mixup import Mixup
from rsft.training.parts.outer_steps import OuterSteps
from rsft.training.parts.pseudo_labels import PseudoLabeler
from rsft.training.processes import HALF_DTYPES, is_rank_zero, shard_frozen_blocks
from rsft.training.setup import TrainingSetup, initialize_weights
from rsft.types import Indices, Progress
from rsft.utils.operating_system import available_cores

_log = logging.getLogger(__name__)

_PARTS = (WeightAverage, Mixup, OuterSteps, PseudoLabeler, AddedChips)
"""Parts that the keys of a recipe switch on, in the order in which they act."""


@cache
def worker_count(requested: int) -> int:
    """Return the number of processes that read chips: not more than processor cores.

    A run does not depend on it.
    """
    cores = len(available_cores())
    if requested > cores and is_rank_zero():
        _log.warning(
            "data.workers: %d processes read chips instead of %d, one for each core",
            cores,
            requested,
        )
    return min(requested, cores)


def part_kinds(recipe: Recipe) -> list[type[Part]]:
    """Return the classes of the parts of a recipe, in the order in which they act."""
    return [*_PARTS, *(cast("type[Part]", PARTS[name]) for name in recipe.train.parts)]


def make_learner(
    recipe: Recipe,
    setup: TrainingSetup,
    shard: ProcessShard = SINGLE_PROCESS,
    progress: Progress | None = None,
) -> Learner:
    """Combine network, chips, losses and parts; `fit` trains the learner.

    Without augmentation and with room on the disk, batches have the outputs of the
    frozen prefix in place of images.

    Args:
        setup: data and network, on its device.
        shard: rank of this process, and the number of processes.
        progress: called while outputs of frozen blocks are cached.
    """
    adapted = setup.classifier.adapted
    section = recipe.train
    precision = section.precision
    device = next(setup.classifier.parameters()).device
    autocast = partial(
        torch.autocast,
        device.type,
        HALF_DTYPES.get(precision),
        enabled=precision in HALF_DTYPES,
    )
    adapted.checkpointing = section.checkpointing
    if section.compile:
        adapted.compile_blocks()
    if precision in HALF_DTYPES:
        adapted.cast_frozen_weights(HALF_DTYPES[precision])
    with autocast():
        train, val = _choose_sources(recipe, setup, progress)
    if section.strategy == "fsdp":
        shard_frozen_blocks(setup.classifier)
    meta = recipe.meta if adapted.gamma else None
    schedule = outer_loop(meta)
    splitter = None

    def members(epoch: int) -> Indices:
        return np.arange(len(train))

    if meta is not None:
        outer_size = outer_batch_size(meta, section)
        splitter = schedule.make_splitter(train.labels, meta, outer_size, recipe.seed)
        members = splitter.inner_subset
    added = find_added_chips(setup.train.table)
    repeats = count_repeats(section.repeat_added, len(added), len(train))
    batches = EpochBatches(
        train,
        val,
        batch_size=section.batch_size,
        eval_batch_size=recipe.evaluate.batch_size,
        augmentation=Augmentation(
            recipe.data.augment, len(setup.contract.planes), setup.contract.size
        ),
        seed=recipe.seed,
        workers=worker_count(recipe.data.workers),
        members=repeat_added_chips(members, added, repeats),
        sampler=section.sampler,
        shard=shard,
    )
    added_counts = np.bincount(train.labels[added], minlength=len(setup.store.classes))
    counts = torch.from_numpy(
        setup.store.class_counts("train") + (repeats - 1) * added_counts
    )
    samplers = section.sampler, meta.sampling if meta else section.sampler
    loss = make_losses(recipe.loss.build(), counts, *map(sampling_exponent, samplers))
    loops = schedule.make_loops(
        setup.classifier,
        build_inner_optimizer(setup.classifier, section),
        meta,
        StepSettings(
            section.max_grad_norm,
            section.accumulate_grad_batches,
            scale_losses=precision == "fp16",
        ),
    )
    context = PartContext(
        recipe=recipe,
        classifier=setup.classifier,
        loops=loops,
        batches=batches,
        images=setup.train,
        classes=setup.store.classes,
        pool=None if setup.pool is None else setup.pool.chips,
        class_counts=counts,
        added=added,
        splitter=splitter,
        load_start=partial(initialize_weights, setup, recipe),
        autocast=autocast,
    )
    parts = make_parts(part_kinds(recipe), context)
    return Learner(setup.classifier, loops, loss, batches, section, parts)


def _choose_sources(
    recipe: Recipe, setup: TrainingSetup, progress: Progress | None
) -> tuple[BatchSource, BatchSource]:
    """Return training and validation chips: images, or outputs of frozen blocks."""
    adapted = setup.classifier.adapted
    chips = setup.train, setup.val
    if recipe.data.augment != "none":
        return chips
    if not all(can_cache_prefix(x, adapted) for x in chips):
        return chips
    key = f"{setup.encoder.sha256} {recipe.train.precision}"
    size = recipe.evaluate.batch_size
    return (
        CachedPrefixTokens(setup.train, adapted, key, size, progress),
        CachedPrefixTokens(setup.val, adapted, key, size, progress),
    )
