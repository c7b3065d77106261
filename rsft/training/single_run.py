"""One training run from top to bottom: open the data, build the model, train, write the bundle."""

import logging
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rsft.backbones import Backbone
from rsft.data.chips.store import ChipStore, count_chips, list_first_names, missing_classes
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
from rsft.recipe.schema import DataSection, Recipe
from rsft.training.calibration import calibrate_bundle
from rsft.training.checkpointing import load_newest_checkpoint
from rsft.training.fit import fit
from rsft.training.init import CachedPrefixTokens, can_cache_prefix, compute_initial_features, init_head
from rsft.training.learner import Learner
from rsft.training.loggers.listener import TrackerListener
from rsft.training.meta.bilevel import MetaSplitter, outer_batch_size
from rsft.training.optim.optimizers import make_losses
from rsft.training.processes import (
    HALF_DTYPES,
    is_rank_zero,
    launch_processes,
    require_consistent_processes,
    resolve_precision,
    shard_frozen_blocks,
)
from rsft.training.recorder import RunListener
from rsft.training.runs.reader import read_run_info
from rsft.training.runs.writer import Run, require_unchanged_inputs
from rsft.training.start_bundle import StartBundle, find_added_chips, keep_first_blocks, repeat_added_chips
from rsft.types import Progress

_log = logging.getLogger(__name__)


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
    if recipe.meta is not None and recipe.meta.order == 2 and recipe.train.optimizer != "sgd":
        message, hint = "a second-order outer step unrolls a step of SGD", "use meta.order=1, or train.optimizer=sgd"
        raise RequestError(message, "meta.order", hint)
    device = choose_device(recipe.train.device)
    recipe, precision_metadata = resolve_precision(recipe, device)
    seed_generators(recipe.seed)
    progress = listener.on_progress if listener else None

    start = StartBundle.open(recipe, *member, run=resume if member[1] == 1 else runs.parent)
    setup = set_up(recipe, start, progress)
    earlier = None if resume is None else read_run_info(resume)
    if earlier is not None:
        require_unchanged_inputs(earlier, setup.store.root, setup.encoder.sha256)

    run = Run.create(recipe, runs, source) if earlier is None else Run.resume(earlier)
    with run.track_status():
        run.update(**precision_metadata, device=device.type)
        if start is not None:
            if member[1] == 1:  # an ensemble has one copy
                start.copy_into(run.folder)
            run.update(start=start.metadata(setup.store, setup.classifier.adapted.kept_blocks))
        checkpoint = load_newest_checkpoint(run.checkpoints_dir)
        processes = launch_processes(recipe.train, device)
        move_network(setup.classifier, processes.device)
        if checkpoint is None:
            initialize_weights(setup, recipe, progress)
        else:
            setup.classifier.load_learned_state(checkpoint.state["learned"])  # the cache of a prefix depends on it
        learner = make_learner(recipe, setup, (processes.rank, processes.world_size), progress)
        parameters = {
            "trained_parameters": setup.classifier.theta,
            "modulator_parameters": setup.classifier.adapted.gamma,
            "total_parameters": setup.classifier.parameters(),
        }
        is_cached = isinstance(learner.batches.train, CachedPrefixTokens)
        run.update(
            **{name: sum(x.numel() for x in tensors) for name, tensors in parameters.items()},
            train_chips=len(setup.train),
            val_chips=len(setup.val),
            backbone_sha256=setup.encoder.sha256,
            stage_depths=stage_depths(setup.classifier.adapted.vit),
            blocks_kept=max(0, setup.classifier.adapted.prefix_end) if is_cached else 0,
        )
        run.drop_epochs_from(checkpoint.position.epoch if checkpoint else 0)
        listeners = [x for x in (listener, trackers) if x is not None] if run.is_writer else []
        fit(processes, learner, setup.store.group_indices, recipe.evaluate, run, listeners, checkpoint)
        if run.is_writer:
            finish((earlier and earlier.recipe) or recipe, run, setup, recipe.train.device, progress)
    return run


def seed_generators(seed: int) -> None:
    """Seed the global random generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@dataclass(frozen=True)
class TrainingSetup:
    """Data and network of a run before its training.

    Attributes:
        store: the chip store, with the classes of the start bundle.
        train: the training chips.
        val: the validation chips.
        encoder: the frozen backbone.
        classifier: the backbone with PEFT modules and a head.
        contract: how a chip becomes the network's input.
        start: the bundle at which the run starts.
    """

    store: ChipStore
    train: ChipImages
    val: ChipImages
    encoder: Backbone
    classifier: Classifier
    contract: Contract
    start: StartBundle | None


def open_data(section: DataSection, start: StartBundle | None = None) -> ChipStore:
    """Open the chips of a run.

    Args:
        section: the section `data` of the recipe.
        start: the bundle at which the run starts; its classes follow those of the store.

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


def set_up(recipe: Recipe, start: StartBundle | None = None, progress: Progress | None = None) -> TrainingSetup:
    """Open the chips, fit the backbone and the contract to them, attach PEFT modules and a head, and read the chips.

    Args:
        recipe: the recipe of the run.
        start: the bundle at which the run starts; its contract is used in place of a new one.
        progress: called while chips are read.

    Returns:
        The setup. The network is on the CPU, in evaluation mode, without the tensors of `start`.

    Raises:
        RequestError: the backbone is unknown, lacks a site of the recipe, or does not suit the chips.
        WeightsError: the weights of the backbone cannot be used.
        DataError: a chip cannot be read.
    """
    store = open_data(recipe.data, start)
    encoder = load_encoder(recipe.backbone, recipe.data, store.bands)
    pool = recipe.backbone.pool
    classifier = build_classifier(encoder, len(store.classes), recipe.peft, recipe.meta, recipe.head, pool)
    if start is not None:
        contract = start.adopt_contract(store, encoder)
    else:
        table = store.split("train")
        units, spacings = sorted(set(table["unit"])), table["spacing_m"].tolist()
        iter_pixels = partial(store.iter_pixels, "train")
        contract = fit_contract(recipe.data, encoder, store.bands, units, iter_pixels, spacings)
    keep_first_blocks(classifier, recipe.train)
    tables = (store.split(split) for split in ("train", "val"))
    train, val = (ChipImages(store.root, table, store.classes, contract, progress) for table in tables)
    return TrainingSetup(store, train, val, encoder, classifier, contract, start)


def initialize_weights(setup: TrainingSetup, recipe: Recipe, progress: Progress | None = None) -> None:
    """Load the tensors of the start bundle; without one, initialize the head by `head.init`.

    Args:
        setup: data and network, on its device.
        recipe: the recipe of the run.
        progress: called after each batch of chips.

    Raises:
        RequestError: a class has no training chip.
        WeightsError: a tensor of the start bundle does not fit.
    """
    if setup.start is not None:
        setup.start.load_into(setup.classifier, setup.train, setup.store.classes, recipe)
    elif recipe.head.init != "random":
        batch_size, sha256 = recipe.evaluate.batch_size, setup.encoder.sha256
        features = compute_initial_features(setup.classifier, setup.train, sha256, batch_size, progress)
        labels = torch.from_numpy(setup.train.labels).to(features.device)
        init_head(setup.classifier.head, recipe.head, features, labels, recipe.seed)


def make_learner(
    recipe: Recipe, setup: TrainingSetup, shard: ProcessShard = SINGLE_PROCESS, progress: Progress | None = None
) -> Learner:
    """Combine network, chips, loss and the settings of a recipe for training; `fit` trains the learner.

    Without augmentation and with room on the disk, batches have the outputs of the frozen prefix in place of images.

    Args:
        recipe: the recipe of the run.
        setup: data and network, on its device.
        shard: rank of this process, and the number of processes.
        progress: called while outputs of frozen blocks are cached.
    """
    adapted, section, precision = setup.classifier.adapted, recipe.train, recipe.train.precision
    adapted.checkpointing = section.checkpointing
    if section.compile:
        adapted.compile_blocks()
    if precision in HALF_DTYPES:
        adapted.cast_frozen_weights(HALF_DTYPES[precision])
    train: BatchSource = setup.train
    val: BatchSource = setup.val
    device, batch_size = next(setup.classifier.parameters()).device, recipe.evaluate.batch_size
    with torch.autocast(device.type, HALF_DTYPES.get(precision), enabled=precision in HALF_DTYPES):
        if recipe.data.augment == "none" and all(can_cache_prefix(x, adapted) for x in (setup.train, setup.val)):
            key = f"{setup.encoder.sha256} {precision}"
            train = CachedPrefixTokens(setup.train, adapted, key, batch_size, progress)
            val = CachedPrefixTokens(setup.val, adapted, key, batch_size, progress)
    if section.strategy == "fsdp":
        shard_frozen_blocks(setup.classifier)
    meta, seed = recipe.meta if adapted.gamma else None, recipe.seed
    splitter = MetaSplitter(train.labels, meta, outer_batch_size(meta, section), seed) if meta else None
    added, repeats = find_added_chips(setup.train.table), section.repeat_added
    members = splitter.inner_subset if splitter else lambda epoch: np.arange(len(train))
    batches = EpochBatches(
        train,
        val,
        batch_size=section.batch_size,
        eval_batch_size=batch_size,
        augmentation=Augmentation(recipe.data.augment, len(setup.contract.planes), setup.contract.size),
        seed=seed,
        workers=recipe.data.workers,
        members=repeat_added_chips(members, added, repeats),
        sampler=section.sampler,
        shard=shard,
    )
    exponents = (sampling_exponent(name) for name in (section.sampler, meta.sampling if meta else section.sampler))
    added_counts = np.bincount(train.labels[added], minlength=len(setup.store.classes))
    counts = torch.from_numpy(setup.store.class_counts("train") + (repeats - 1) * added_counts)
    loss = make_losses(recipe.loss.build(), counts, *exponents)
    return Learner(setup.classifier, loss, batches, splitter, section, meta, seed)


def finish(
    recipe: Recipe, run: Run, setup: TrainingSetup, device: str = "auto", progress: Progress | None = None
) -> None:
    """Prune weak sites, calibrate the classifier, write the bundle, and close the run.

    Args:
        recipe: the recipe that the bundle stores.
        run: the run that receives the bundle.
        setup: data and trained network.
        device: the device for the calibration: auto, cpu or cuda.
        progress: called after each batch of chips.
    """
    classifier, store = setup.classifier, setup.store
    if recipe.meta is not None and recipe.meta.prune_below is not None:
        run.update(pruned_sites=[str(site) for site in classifier.adapted.prune(recipe.meta.prune_below)])
    bundle = Bundle(
        recipe=recipe,
        classes=store.classes,
        groups={group: tuple(names) for group, names in store.groups.items()},
        train_counts=tuple(int(count) for count in store.class_counts("train")),
        contract=setup.contract,
        backbone_sha256=setup.encoder.sha256,
        tensors=classifier.learned_state(),
        licenses=(
            source_license("backbone", recipe.backbone.name, setup.encoder.license),
            source_license("data", store.name, store.license),
        ),
    )
    bundle = calibrate_bundle(bundle, setup.train, setup.val, device, progress)
    run.update(bundle_sha256=bundle.save(run.bundle_dir))
    run.finish()
