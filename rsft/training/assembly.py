"""Network, chips, losses and parts of a run, combined for its training."""

import logging
import shutil
from collections.abc import Callable
from functools import partial
from multiprocessing import get_start_method
from typing import Literal, cast

import numpy as np
import torch

from rsft.data.imagery.augmentation import Augmentation
from rsft.data.loading.batches import BatchSource, EpochBatches
from rsft.data.loading.samplers import SINGLE_PROCESS, ProcessShard
from rsft.models.classifier import Classifier
from rsft.recipe.registries import PARTS, sampling_exponent
from rsft.recipe.schema import Recipe, TrainSection
from rsft.training.init.prefix_cache import CachedPrefixTokens, can_cache_prefix
from rsft.training.learner import Learner
from rsft.training.meta.bilevel import outer_batch_size
from rsft.training.meta.schedules import outer_loop
from rsft.training.optim.optimizers import build_inner_optimizer, make_losses
from rsft.training.parts.added_chips import (
    AddedChips,
    count_repeats,
    find_added_chips,
    repeat_added_chips,
)
from rsft.training.parts.average import WeightAverage
from rsft.training.parts.base import Autocast, Part, PartContext, make_parts
from rsft.training.parts.mixup import Mixup
from rsft.training.parts.outer_steps import OuterSteps
from rsft.training.parts.pseudo_labels import PseudoLabeler
from rsft.training.processes import HALF_DTYPES, shard_frozen_blocks
from rsft.training.setup import TrainingSetup
from rsft.types import Indices, Progress
from rsft.utils.operating_system import available_cores

_log = logging.getLogger(__name__)

_PARTS = (WeightAverage, Mixup, OuterSteps, PseudoLabeler, AddedChips)
"""Parts that the keys of a recipe switch on, in the order in which they act."""


_MOST_WORKERS = 8
"""Largest number of processes that read chips, if the recipe gives none."""


def worker_count(
    requested: int | Literal["auto"],
    device: torch.device,
    devices: int,
    batch_bytes: int,
) -> int:
    """Return the number of processes that read chips: not more than processor cores.

    A run does not depend on it. "auto" takes none for a CPU, whose cores train, and
    where a new process would import PyTorch in each epoch.

    Args:
        requested: the key `data.workers`.
        device: the device that trains.
        devices: number of devices of this machine that train.
        batch_bytes: bytes of a batch of all devices; each reader keeps two of its
            device in shared memory.
    """
    cores = len(available_cores())
    if requested != "auto":
        return min(requested, cores)
    if device.type != "cuda" or get_start_method() != "fork":
        return 0
    free = shutil.disk_usage("/dev/shm").free  # 64 MB in a container of Docker
    room = free // 2 // (2 * batch_bytes)
    return max(0, min(cores // devices - 1, _MOST_WORKERS, room))


def part_kinds(recipe: Recipe) -> list[type[Part]]:
    """Return the classes of the parts of a recipe, in the order in which they act."""
    return [*_PARTS, *(cast("type[Part]", PARTS[name]) for name in recipe.train.parts)]


def make_learner(
    setup: TrainingSetup,
    shard: ProcessShard = SINGLE_PROCESS,
    progress: Progress | None = None,
) -> Learner:
    """Combine network, chips, losses and parts; `fit` trains the learner.

    Without augmentation and with room on the disk, batches have the outputs of the
    frozen prefix in place of images.

    Args:
        setup: recipe, data and network, on its device.
        shard: rank of this process, and the number of processes.
        progress: called while outputs of frozen blocks are cached.
    """
    classifier = setup.classifier
    recipe = setup.recipe
    section = recipe.train
    autocast = _prepare_network(classifier, section)
    with autocast():
        train, val = _choose_sources(setup, progress)
    if section.strategy == "fsdp":
        shard_frozen_blocks(classifier)
    meta = recipe.meta if classifier.adapted.gamma else None
    schedule = outer_loop(meta)
    splitter = None

    def members(epoch: int) -> Indices:
        return np.arange(len(train))

    if meta:
        outer_size = outer_batch_size(meta, section)
        splitter = schedule.make_splitter(train.labels, meta, outer_size, recipe.seed)
        members = splitter.inner_subset
    added = find_added_chips(setup.train.table)
    repeats = count_repeats(section.repeat_added, len(added), len(train))
    chips_of_epoch = repeat_added_chips(members, added, repeats)
    batches = _make_batches(setup, (train, val), chips_of_epoch, shard)
    added_counts = np.bincount(train.labels[added], minlength=len(setup.store.classes))
    counts = torch.from_numpy(
        setup.store.class_counts("train") + (repeats - 1) * added_counts
    )
    samplers = section.sampler, meta.sampling if meta else section.sampler
    loss = make_losses(recipe.loss.build(), counts, *map(sampling_exponent, samplers))
    optimizer = build_inner_optimizer(classifier, section)
    loops = schedule.make_loops(classifier, optimizer, meta, section)
    context = PartContext(
        setup=setup,
        loops=loops,
        batches=batches,
        class_counts=counts,
        added=added,
        splitter=splitter,
        autocast=autocast,
    )
    parts = make_parts(part_kinds(recipe), context)
    return Learner(classifier, loops, loss, batches, section, parts, autocast)


def _make_batches(
    setup: TrainingSetup,
    sources: tuple[BatchSource, BatchSource],
    members: Callable[[int], Indices],
    shard: ProcessShard,
) -> EpochBatches:
    """Return the batches of training and validation chips of one process."""
    recipe = setup.recipe
    contract = setup.contract
    batch_size = recipe.train.batch_size
    device = setup.classifier.theta[0].device
    batch_bytes = batch_size * contract.size**2 * len(contract.planes)
    return EpochBatches(
        *sources,
        batch_size=batch_size,
        eval_batch_size=recipe.evaluate.batch_size,
        augmentation=Augmentation(
            recipe.data.augment, len(contract.planes), contract.size
        ),
        seed=recipe.seed,
        workers=worker_count(
            recipe.data.workers, device, recipe.train.devices, batch_bytes
        ),
        members=members,
        sampler=recipe.train.sampler,
        shard=shard,
    )


def _prepare_network(classifier: Classifier, train: TrainSection) -> Autocast:
    """Give a network the precision of a run, and return the context of its passes."""
    adapted = classifier.adapted
    adapted.checkpointing = train.checkpointing
    if train.compile:
        adapted.compile_blocks()
    dtype = HALF_DTYPES.get(train.precision)
    if dtype:
        adapted.cast_frozen_weights(dtype)
    device = next(classifier.parameters()).device
    is_half = dtype is not None
    return partial(torch.autocast, device.type, dtype, enabled=is_half)


def _choose_sources(
    setup: TrainingSetup, progress: Progress | None
) -> tuple[BatchSource, BatchSource]:
    """Return training and validation chips: images, or outputs of frozen blocks."""
    adapted = setup.classifier.adapted
    recipe = setup.recipe
    chips = setup.train, setup.val
    if recipe.data.augment != "none":
        return chips
    if not all(can_cache_prefix(x, adapted) for x in chips):
        return chips
    key: list[object] = [f"{setup.encoder.sha256} {recipe.train.precision}"]
    if setup.start:
        key += [setup.start.bundle.sha256, setup.start.member]
    size = recipe.evaluate.batch_size
    return (
        CachedPrefixTokens(setup.train, adapted, key, size, progress),
        CachedPrefixTokens(setup.val, adapted, key, size, progress),
    )
