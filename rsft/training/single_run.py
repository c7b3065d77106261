"""One training run from top to bottom: open the data, build the model, train, write the bundle.

Seed the global random generators.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rsft.backbones import Backbone
from rsft.data.chips.store import ChipStore
from rsft.data.chips.summary import count_chips, list_first_names, missing_classes
from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.contract import Contract
from rsft.data.loading.batches import BatchSource, ChipImages, EpochBatches
from rsft.data.loading.samplers import SINGLE_PROCESS, ProcessShard
from rsft.errors import RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.models.bundle.manifest import source_license
from rsft.models.classifier import Classifier, move_network
from rsft.models.contract_fitting import fit_contract
from rsft.models.factory import build_classifier, choose_device, load_encoder
from rsft.peft.modules.adapter_module import stage_depths
from rsft.recipe.registries import sampling_exponent
from rsft.recipe.schema import BackboneSection, DataSection, HeadSection, MetaSection, PeftSection, Recipe, TrainSection
from rsft.training.calibration import calibrate_bundle
from rsft.training.checkpointing import load_newest_checkpoint
from rsft.training.distributed.collectives import is_rank_zero
from rsft.training.distributed.processes import launch_processes, require_consistent_processes, shard_frozen_blocks
from rsft.training.fit import fit
from rsft.training.init import CachedPrefixTokens, can_cache_prefix, compute_initial_features, init_head
from rsft.training.learner import Learner
from rsft.training.loggers.listener import TrackerListener
from rsft.training.meta.meta_split import MetaSplitter, outer_batch_size
from rsft.training.optim.optimizers import make_losses
from rsft.training.precision import HALF_DTYPES, resolve_precision
from rsft.training.recorder import RunListener
from rsft.training.runs.reader import read_run_info
from rsft.training.runs.writer import Run, require_unchanged_inputs
from rsft.training.start_bundle import (
    StartBundle,
    find_added_chips,
    keep_first_blocks,
    repeat_added_chips,
    start_at_bundle,
)
from rsft.types import Progress


def seed_generators(seed: int) -> None:
    """Seed the global random generators of Python, NumPy and PyTorch.

    Args:
        seed: the seed of the recipe.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@dataclass(frozen=True)
class TrainingModel:
    """The network of a run.

    Attributes:
        encoder: the frozen backbone.
        classifier: the backbone with PEFT modules and a head.
        contract: how a chip becomes the network's input.
    """

    encoder: Backbone
    classifier: Classifier
    contract: Contract


_log = logging.getLogger(__name__)

TrainingChips = tuple[ChipImages, ChipImages]
"""The training chips and the validation chips of a run."""


def train_single_run(
    recipe: Recipe,
    runs: Path = Path("runs"),
    listener: RunListener | None = None,
    *,
    source: Path | None = None,
    resume: Path | None = None,
    member: tuple[int, int] = (0, 1),
) -> Run:
    """Train one classifier, regardless of `train.ensemble_size`, and write the bundle.

    Args:
        recipe: the recipe of the run.
        runs: folder in which the run folder is created.
        listener: called with the progress; None for no listener.
        source: the recipe's file; run.json records the Git state of the repository around it.
        resume: folder of an unfinished run to continue; its recipe must equal `recipe` except for
            `CHANGEABLE_KEYS`.
        member: index of the run in an ensemble, and size of the ensemble; it starts at the same run of
            `train.start_bundle`.

    Returns:
        The finished run; in a process other than rank zero, a run that writes nothing.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RequestError: data or a backbone is missing, or a split has no chips.
        DataError: a chip cannot be read.
        RsftError: a loss is not finite.
    """
    trackers = TrackerListener(recipe)
    require_consistent_processes(recipe.train)
    _require_unrollable_optimizer(recipe.train, recipe.meta)
    device = choose_device(recipe.train.device)
    recipe, precision_metadata = resolve_precision(recipe, device)
    seed_generators(recipe.seed)
    progress = listener.on_progress if listener else None

    start = StartBundle.open(recipe, *member, run=resume if member[1] == 1 else runs.parent)
    store = open_data(recipe.data, start)
    model = build_model(store, recipe.data, recipe.backbone, recipe.peft, recipe.meta, recipe.head, start)
    keep_first_blocks(model.classifier, recipe.train)
    earlier = None if resume is None else read_run_info(resume)
    if earlier is not None:
        require_unchanged_inputs(earlier, store.root, model.encoder.sha256)
    chips = read_chips(store, model.contract, progress)

    run = Run.create(recipe, runs, source) if earlier is None else Run.resume(earlier)
    with run.track_status():
        run.update(**precision_metadata, device=device.type)
        if start is not None:
            if member[1] == 1:  # an ensemble has one copy
                start.copy_into(run.folder)
            run.update(start=start.metadata(store, model.classifier.adapted.kept_blocks))
        checkpoint = load_newest_checkpoint(run.checkpoints_dir)
        processes = launch_processes(recipe.train, device)
        move_network(model.classifier, processes.device)
        if checkpoint is not None:
            model.classifier.load_learned_state(checkpoint.state["learned"])  # the cache of a prefix depends on it
        elif start is not None:
            start_at_bundle(start, model.classifier, chips[0], store.classes, recipe)
        else:
            initialize_head(model, chips[0], recipe.head, recipe.evaluate.batch_size, recipe.seed, progress)
        learner = make_learner(recipe, store, model, chips, (processes.rank, processes.world_size), progress)
        run.update(**_size_entries(model, learner.batches))
        run.drop_epochs_from(checkpoint.position.epoch if checkpoint else 0)
        listeners = [x for x in (listener, trackers) if x is not None] if run.is_writer else []
        fit(processes, learner, store.group_indices, recipe.evaluate, run, listeners, checkpoint)
        if run.is_writer:
            # A resumed run keeps the recipe that it began with, without the overrides of this session.
            original_recipe = earlier.recipe if earlier and earlier.recipe else recipe
            finish(original_recipe, run, store, model, chips, recipe.train.device, progress)
    return run


def _require_unrollable_optimizer(train: TrainSection, meta: MetaSection | None) -> None:
    if meta is not None and meta.order == 2 and train.optimizer != "sgd":
        hint = "use meta.order=1, or train.optimizer=sgd"
        raise RequestError("a second-order outer step unrolls a step of SGD", "meta.order", hint)


def open_data(section: DataSection, start: StartBundle | None = None) -> ChipStore:
    """Open the chips of a run.

    Args:
        section: the section `data` of the recipe.
        start: the bundle at which the run starts.

    Returns:
        The chip store; the classes of the bundle follow its own.

    Raises:
        RequestError: the folder is not a chip store, a split has no chips, or all training chips have one class.
    """
    store = ChipStore.open(Path(section.root))
    for split in ("train", "val"):
        if store.split(split).empty:
            hint = "prepare the data with a train and a val split"
            raise RequestError(f"the split {split} has no chips", store.root, hint)
    if (classes := store.split("train")["class"].unique()).size < 2:
        message = f"all training chips have the class {classes[0]}, so that a classifier has nothing to distinguish"
        raise RequestError(message, store.root, "prepare training chips of at least two classes")
    if is_rank_zero():
        for split, names in missing_classes(count_chips(store)).items():
            _log.warning("no chip in %s: %s", split, list_first_names(names))
    return store if start is None else start.extend_classes(store)


def build_model(
    store: ChipStore,
    data: DataSection,
    backbone: BackboneSection,
    peft: PeftSection,
    meta: MetaSection | None,
    head: HeadSection,
    start: StartBundle | None = None,
) -> TrainingModel:
    """Load the backbone, fit its input layer and the contract to the chips, and attach PEFT modules and a head.

    Args:
        store: the chips, which determine bands and classes.
        data: the section `data` of the recipe.
        backbone: the section `backbone`.
        peft: the section `peft`.
        meta: the section `meta`; None for plain PEFT.
        head: the section `head`.
        start: the bundle at which the run starts; its contract is used in place of a new one.

    Returns:
        The network on the CPU, in evaluation mode, without the tensors of `start`.

    Raises:
        RequestError: the backbone is unknown, lacks a site of the recipe, or does not suit the chips.
        WeightsError: the weights of the backbone cannot be used.
        DataError: a chip cannot be read.
    """
    encoder = load_encoder(backbone, data, store.bands)
    classifier = build_classifier(encoder, len(store.classes), peft, meta, head, backbone.pool)
    if start is not None:
        return TrainingModel(encoder, classifier, start.adopt_contract(store, encoder))
    table = store.split("train")
    units, spacings = sorted(set(table["unit"])), table["spacing_m"].tolist()
    contract = fit_contract(data, encoder, store.bands, units, partial(store.iter_pixels, "train"), spacings)
    return TrainingModel(encoder, classifier, contract)


def read_chips(store: ChipStore, contract: Contract, progress: Progress | None = None) -> TrainingChips:
    """Read the chips of both splits.

    Args:
        store: the chip store.
        contract: how a chip becomes the network's input.
        progress: called while chips are read.

    Returns:
        The chips.

    Raises:
        DataError: a chip cannot be read.
    """
    tables = (store.split(split) for split in ("train", "val"))
    train, val = (ChipImages(store.root, table, store.classes, contract, progress) for table in tables)
    return train, val


def initialize_head(
    model: TrainingModel,
    train: ChipImages,
    section: HeadSection,
    batch_size: int,
    seed: int,
    progress: Progress | None = None,
) -> None:
    """Set the weights of the head from features of the network before training, unless `head.init` is "random".

    Args:
        model: the network, on its device.
        train: the training chips.
        section: the section `head` of the recipe.
        batch_size: chips in a forward pass.
        seed: the seed of the recipe.
        progress: called after each batch of chips.

    Raises:
        RequestError: a class has no training chip.
    """
    if section.init == "random":
        return
    features = compute_initial_features(model.classifier, train, model.encoder.sha256, batch_size, progress)
    labels = torch.from_numpy(train.labels).to(features.device)
    init_head(model.classifier.head, section, features, labels, seed)


def make_learner(
    recipe: Recipe,
    store: ChipStore,
    model: TrainingModel,
    chips: TrainingChips,
    shard: ProcessShard = SINGLE_PROCESS,
    progress: Progress | None = None,
) -> Learner:
    """Combine model, chips, loss and the settings of a recipe for training.

    Args:
        recipe: the recipe of the run.
        store: the chip store, which has the class counts for the loss.
        model: the network, on its device.
        chips: the chips.
        shard: rank of this process, and the number of processes.
        progress: called while outputs of frozen blocks are cached.

    Returns:
        The learner; `fit` trains it.
    """
    adapted, section = model.classifier.adapted, recipe.train
    adapted.checkpointing = section.checkpointing
    if section.compile:
        adapted.compile_blocks()
    if section.precision in HALF_DTYPES:
        adapted.cast_frozen_weights(HALF_DTYPES[section.precision])
    train, val = _network_inputs(recipe, model, chips, progress)
    if section.strategy == "fsdp":
        shard_frozen_blocks(model.classifier)
    meta, seed = recipe.meta if adapted.gamma else None, recipe.seed
    splitter = MetaSplitter(train.labels, meta, outer_batch_size(meta, section), seed) if meta else None
    added, repeats = find_added_chips(chips[0].table), section.repeat_added
    members = splitter.inner_subset if splitter else lambda epoch: np.arange(len(train))
    batches = EpochBatches(
        train,
        val,
        batch_size=section.batch_size,
        eval_batch_size=recipe.evaluate.batch_size,
        augmentation=Augmentation(recipe.data.augment, len(model.contract.planes), model.contract.size),
        seed=seed,
        workers=recipe.data.workers,
        members=repeat_added_chips(members, added, repeats),
        sampler=section.sampler,
        shard=shard,
    )
    exponents = (sampling_exponent(name) for name in (section.sampler, meta.sampling if meta else section.sampler))
    counts = store.class_counts("train") + (repeats - 1) * np.bincount(
        train.labels[added], minlength=len(store.classes)
    )
    loss = make_losses(recipe.loss.build(), torch.from_numpy(counts), *exponents)
    return Learner(model.classifier, loss, batches, splitter, section, meta, seed)


def _network_inputs(
    recipe: Recipe, model: TrainingModel, chips: TrainingChips, progress: Progress | None
) -> tuple[BatchSource, BatchSource]:
    """Return both splits as images; without augmentation and with room on the disk, as outputs of the frozen prefix."""
    adapted, precision = model.classifier.adapted, recipe.train.precision
    device = next(model.classifier.parameters()).device
    with torch.autocast(device.type, HALF_DTYPES.get(precision), enabled=precision in HALF_DTYPES):
        if recipe.data.augment != "none" or not all(can_cache_prefix(x, adapted) for x in chips):
            return chips
        key, batch_size = f"{model.encoder.sha256} {precision}", recipe.evaluate.batch_size
        train, val = (CachedPrefixTokens(x, adapted, key, batch_size, progress) for x in chips)
        return train, val


def finish(
    recipe: Recipe,
    run: Run,
    store: ChipStore,
    model: TrainingModel,
    chips: TrainingChips,
    device: str = "auto",
    progress: Progress | None = None,
) -> None:
    """Prune weak sites, calibrate the classifier, write the bundle, and close the run.

    Args:
        recipe: the recipe that the bundle stores.
        run: the run that receives the bundle.
        store: the chip store, which names classes and groups.
        model: the trained model.
        chips: the chips on which the classifier is calibrated.
        device: the device for the calibration: auto, cpu or cuda.
        progress: called after each batch of chips.
    """
    classifier = model.classifier
    if recipe.meta is not None and recipe.meta.prune_below is not None:
        run.update(pruned_sites=[str(site) for site in classifier.adapted.prune(recipe.meta.prune_below)])
    bundle = Bundle(
        recipe=recipe,
        classes=store.classes,
        groups={group: tuple(names) for group, names in store.groups.items()},
        train_counts=tuple(int(count) for count in store.class_counts("train")),
        contract=model.contract,
        backbone_sha256=model.encoder.sha256,
        tensors=classifier.learned_state(),
        licenses=(
            source_license("backbone", recipe.backbone.name, model.encoder.license),
            source_license("data", store.name, store.license),
        ),
    )
    bundle = calibrate_bundle(bundle, *chips, device, progress)
    run.update(bundle_sha256=bundle.save(run.bundle_dir))
    run.finish()


def _size_entries(model: TrainingModel, batches: EpochBatches) -> dict[str, Any]:
    """Return the entries of run.json on the sizes of model and data."""
    classifier, is_cached = model.classifier, isinstance(batches.train, CachedPrefixTokens)
    parameters = {"trained": classifier.theta, "modulator": classifier.adapted.gamma, "total": classifier.parameters()}
    return {f"{name}_parameters": sum(x.numel() for x in tensors) for name, tensors in parameters.items()} | {
        "train_chips": len(batches.train),
        "val_chips": len(batches.val),
        "backbone_sha256": model.encoder.sha256,
        "stage_depths": stage_depths(classifier.adapted.vit),
        "blocks_kept": max(0, classifier.adapted.prefix_end) if is_cached else 0,
    }
