"""One training run from top to bottom: build the model, open the data, train, write the bundle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer, seed_everything

from rsft.backbones import Backbone
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.contract import Contract
from rsft.data.loading.datamodule import BatchSource, ChipDataModule, ChipImages
from rsft.errors import Interrupted, RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Classifier
from rsft.models.contract_fitting import fit_contract
from rsft.models.factory import build_classifier, load_encoder
from rsft.recipe.schema import Recipe, TrainSection
from rsft.training.calibration import calibrate_bundle
from rsft.training.checkpointing import CheckpointCallback, StopSignals
from rsft.training.distributed.strategies import process_device, trainer_process_options
from rsft.training.early_stopping import EarlyStopping
from rsft.training.init.frozen_features import compute_initial_features
from rsft.training.init.head_init import init_head
from rsft.training.init.prefix_cache import CachedPrefixTokens, can_cache_prefix
from rsft.training.lightning_module import FineTuningModule
from rsft.training.loggers.listener import TrackerListener
from rsft.training.meta.meta_split import make_meta_splitter
from rsft.training.optim.losses import make_loss
from rsft.training.precision import HALF_DTYPES, resolve_precision, trainer_precision_options
from rsft.training.quiet_lightning import quiet_lightning
from rsft.training.recorder import Recorder, RunListener
from rsft.training.runs.checkpoints import Checkpoint, load_newest_checkpoint
from rsft.training.runs.reader import read_run_info
from rsft.training.runs.writer import Run, require_unchanged_inputs
from rsft.types import Progress


@dataclass(frozen=True)
class TrainingModel:
    """The network of a run.

    Attributes:
        encoder: the frozen backbone.
        classifier: the backbone with PEFT modules and a head.
    """

    encoder: Backbone
    classifier: Classifier


@dataclass(frozen=True)
class TrainingData:
    """The chips of a run.

    Attributes:
        store: the chip store from which the chips are read.
        contract: how a chip becomes the network's input.
        train: the training chips.
        val: the validation chips.
    """

    store: ChipStore
    contract: Contract
    train: ChipImages
    val: ChipImages


@quiet_lightning()
def train_single_run(
    recipe: Recipe,
    runs: Path = Path("runs"),
    listener: RunListener | None = None,
    *,
    source: Path | None = None,
    resume: Path | None = None,
) -> Run:
    """Train one classifier, regardless of `train.ensemble_size`, and write the bundle.

    Args:
        recipe: the recipe of the run.
        runs: folder in which the run folder is created.
        listener: called with the progress; None for no listener.
        source: the recipe's file; run.json records the Git state of the repository around it.
        resume: folder of an unfinished run to continue; its recipe must equal `recipe` except for
            `CHANGEABLE_KEYS`.

    Returns:
        The finished run; in a process other than rank zero, a run that writes nothing.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RequestError: data or a backbone is missing, or a split has no chips.
        DataError: a chip cannot be read.
        RsftError: a loss is not finite.
    """
    trackers = TrackerListener(recipe)
    process_options = trainer_process_options(recipe.train)
    device = process_device(recipe.train.device)
    recipe, precision_metadata = resolve_precision(recipe, device)
    seed_everything(recipe.seed, verbose=False)
    progress = listener.on_progress if listener else None

    store = ChipStore.open(Path(recipe.data.root))
    model = build_model(recipe, store)
    earlier = None if resume is None else read_run_info(resume)
    if earlier is not None:
        require_unchanged_inputs(earlier, store.root, model.encoder.sha256)
    data = open_data(recipe, store, model.encoder, progress)

    run = Run.create(recipe, runs, source) if earlier is None else Run.resume(earlier)
    with run.track_status():
        run.update(**precision_metadata, device=str(device))
        checkpoint = load_newest_checkpoint(run.checkpoints_dir)
        model.classifier.to(device)
        if checkpoint is None:
            _initialize_head(recipe, model, data.train, progress)
        recorder = Recorder(run, listener, trackers) if run.is_writer else Recorder(run)
        fit(recipe, run, model, data, checkpoint, process_options, recorder, progress)
        if run.is_writer:
            # A resumed run keeps the recipe that it began with, without the overrides of this session.
            original_recipe = earlier.recipe if earlier and earlier.recipe else recipe
            finish(original_recipe, run, model, data, recipe.train.device, progress)
    return run


def build_model(recipe: Recipe, store: ChipStore) -> TrainingModel:
    """Load the backbone, fit its input layer to the chips, and attach new PEFT modules and a new head.

    Args:
        recipe: the recipe of the run.
        store: the prepared chips, which determine bands and classes.

    Returns:
        The network on the CPU.

    Raises:
        RequestError: the backbone is unknown, or lacks a site of the recipe.
        WeightsError: the weights of the backbone cannot be used.
    """
    encoder = load_encoder(recipe, store.bands)
    return TrainingModel(encoder, build_classifier(recipe, len(store.classes), encoder))


def open_data(recipe: Recipe, store: ChipStore, encoder: Backbone, progress: Progress | None = None) -> TrainingData:
    """Fit the contract to the training chips, and read the chips of both splits.

    Args:
        recipe: the recipe of the run.
        store: the prepared chips.
        encoder: the frozen backbone, which determines planes and normalization.
        progress: called while chips are read.

    Returns:
        The chips with their contract.

    Raises:
        RequestError: a split has no chips, or their unit does not suit the backbone.
        DataError: a chip cannot be read.
    """
    table = store.split("train")
    units, spacings = sorted(set(table["unit"])), table["spacing_m"].tolist()
    contract = fit_contract(recipe, encoder, store.bands, units, partial(store.iter_pixels, "train"), spacings)
    train, val = (_read_split(store, split, contract, progress) for split in ("train", "val"))
    return TrainingData(store, contract, train, val)


def _read_split(store: ChipStore, split: str, contract: Contract, progress: Progress | None) -> ChipImages:
    table = store.split(split)
    if table.empty:
        hint = "prepare the data with a train and a val split"
        raise RequestError(f"the split {split} has no chips", store.root, hint)
    return ChipImages(store.root, table, store.classes, contract, progress)


def _initialize_head(recipe: Recipe, model: TrainingModel, train: ChipImages, progress: Progress | None) -> None:
    """Set the weights of the head from features of the network before training, unless `head.init` is "random"."""
    if recipe.head.init == "random":
        return
    classifier, batch_size = model.classifier, recipe.evaluate.batch_size
    features = compute_initial_features(classifier, train, model.encoder.sha256, batch_size, progress)
    labels = torch.from_numpy(train.labels).to(features.device)
    init_head(classifier.head, recipe.head, features, labels, recipe.seed)


def fit(
    recipe: Recipe,
    run: Run,
    model: TrainingModel,
    data: TrainingData,
    checkpoint: Checkpoint | None,
    process_options: dict[str, Any],
    recorder: Recorder,
    progress: Progress | None = None,
) -> None:
    """Train the classifier in place.

    Args:
        recipe: the recipe of the run.
        run: the run that receives tables, metadata and checkpoints.
        model: the model to train, on its device.
        data: the chips.
        checkpoint: the state from which training continues; None starts at the first step.
        process_options: the options from `trainer_process_options`.
        recorder: writes tables and calls listeners.
        progress: called while outputs of frozen blocks are cached.

    Raises:
        Interrupted: SIGINT or SIGTERM; a checkpoint is saved.
        RsftError: a loss is not finite.
    """
    classifier, signals = model.classifier, StopSignals()
    classifier.adapted.checkpointing = recipe.train.checkpointing
    if recipe.train.precision in HALF_DTYPES:
        classifier.adapted.cast_frozen_weights(HALF_DTYPES[recipe.train.precision])
    train, val = _network_inputs(recipe, model, data, progress)
    module, data_module = _make_modules(recipe, classifier, data.store, train, val)
    run.update(**_size_entries(model, data, cached=isinstance(train, CachedPrefixTokens)))
    run.drop_epochs_from(checkpoint.position.epoch if checkpoint else 0)
    callbacks = [*_early_stopping(recipe.train), CheckpointCallback(run, recipe.train, checkpoint, signals)]
    trainer = _make_trainer(recipe, module.theta[0].device, process_options, [recorder, *callbacks])
    classifier.adapted.additive.train()  # the frozen backbone stays in evaluation mode
    try:
        trainer.fit(module, datamodule=data_module)
    finally:
        signals.uninstall()
    if signals.received:  # a signal after the last step
        raise Interrupted(signals.received, "saved at the end of training")


def finish(
    recipe: Recipe,
    run: Run,
    model: TrainingModel,
    data: TrainingData,
    device: str = "auto",
    progress: Progress | None = None,
) -> None:
    """Prune weak sites, calibrate the classifier, write the bundle, and close the run.

    Args:
        recipe: the recipe that the bundle stores.
        run: the run that receives the bundle.
        model: the trained model.
        data: the chips on which the classifier is calibrated.
        device: the device for the calibration: auto, cpu or cuda.
        progress: called after each batch of chips.
    """
    classifier, store = model.classifier, data.store
    if recipe.meta is not None and recipe.meta.prune_below is not None:
        run.update(pruned_sites=[str(site) for site in classifier.adapted.prune(recipe.meta.prune_below)])
    bundle = Bundle(
        recipe=recipe,
        classes=store.classes,
        groups={group: tuple(names) for group, names in store.groups.items()},
        train_counts=tuple(int(count) for count in store.class_counts("train")),
        contract=data.contract,
        backbone_sha256=model.encoder.sha256,
        tensors=classifier.learned_state(),
    )
    bundle = calibrate_bundle(bundle, data.train, data.val, device, progress)
    run.update(bundle_sha256=bundle.save(run.bundle_dir))
    run.finish()


def _network_inputs(
    recipe: Recipe, model: TrainingModel, data: TrainingData, progress: Progress | None
) -> tuple[BatchSource, BatchSource]:
    """Return both splits as images; without augmentation and with room on the disk, as outputs of the frozen prefix."""
    adapted, precision = model.classifier.adapted, recipe.train.precision
    device = next(model.classifier.parameters()).device
    with torch.autocast(device.type, HALF_DTYPES.get(precision), enabled=precision in HALF_DTYPES):
        if recipe.data.augment != "none" or not all(can_cache_prefix(x, adapted) for x in (data.train, data.val)):
            return data.train, data.val
        key, batch_size = f"{model.encoder.sha256} {precision}", recipe.evaluate.batch_size
        train, val = (CachedPrefixTokens(x, adapted, key, batch_size, progress) for x in (data.train, data.val))
        return train, val


def _make_modules(
    recipe: Recipe, classifier: Classifier, store: ChipStore, train: BatchSource, val: BatchSource
) -> tuple[FineTuningModule, ChipDataModule]:
    """Return the Lightning module, with its loss, and the data module."""
    splitter = None if recipe.meta is None else make_meta_splitter(recipe.meta, recipe.train, train.labels, recipe.seed)
    data_module = ChipDataModule(
        train,
        val,
        batch_size=recipe.train.batch_size,
        eval_batch_size=recipe.evaluate.batch_size,
        augmentation=Augmentation(recipe.data.augment, len(train.contract.planes)),
        seed=recipe.seed,
        workers=recipe.data.workers,
        members=splitter.inner_subset if splitter else None,
        sampler=recipe.train.sampler,
    )
    loss = make_loss(recipe.loss.build(), torch.from_numpy(store.class_counts("train")).float())
    groups = {group: [store.classes.index(name) for name in names] for group, names in store.groups.items()}
    return FineTuningModule(classifier, recipe, loss, train, splitter, groups), data_module


def _make_trainer(
    recipe: Recipe, device: torch.device, process_options: dict[str, Any], callbacks: list[Callback]
) -> Trainer:
    """Return a Lightning trainer without logger, checkpoints and displays, which rsft replaces."""
    precision_options = trainer_precision_options(recipe.train.precision, device.type)
    plugins = [*process_options.get("plugins", []), *precision_options.get("plugins", [])]
    options = process_options | precision_options | {"plugins": plugins}
    return Trainer(
        max_epochs=recipe.train.epochs,
        accelerator="gpu" if device.type == "cuda" else "cpu",
        **options,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=recipe.evaluate.every,
        reload_dataloaders_every_n_epochs=1,
    )


def _early_stopping(train: TrainSection) -> list[Callback]:
    return [] if train.patience is None else [EarlyStopping(train.patience, train.min_delta)]


def _size_entries(model: TrainingModel, data: TrainingData, *, cached: bool) -> dict[str, Any]:
    """Return the entries of run.json on the sizes of model and data."""
    classifier = model.classifier
    parameters = {"trained": classifier.theta, "modulator": classifier.adapted.gamma, "total": classifier.parameters()}
    return {f"{name}_parameters": sum(x.numel() for x in tensors) for name, tensors in parameters.items()} | {
        "train_chips": len(data.train),
        "val_chips": len(data.val),
        "backbone_sha256": model.encoder.sha256,
        "blocks_kept": max(0, classifier.adapted.first_adapted_stage) if cached else 0,
    }
