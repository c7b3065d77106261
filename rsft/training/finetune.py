"""The job of `rsft finetune`: a recipe in, a run folder with a bundle out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer, seed_everything

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.augmentation import Augmentation
from rsft.data.imagery.contract import Contract
from rsft.data.loading.datamodule import Batches, ChipData, ChipImages
from rsft.errors import Interrupted, RequestError
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Classifier
from rsft.models.contract_fitting import contract_of
from rsft.models.factory import build_classifier, load_encoder
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import Recipe
from rsft.training.calibration import judged
from rsft.training.callbacks.checkpointing import Signals, Survival
from rsft.training.callbacks.early_stopping import Patience
from rsft.training.callbacks.recorder import Listener, Recorder
from rsft.training.distributed.strategies import own_device, trainer_processes
from rsft.training.init.frozen_features import start_features
from rsft.training.init.head_init import start_head
from rsft.training.init.prefix_cache import TokenChips, fits
from rsft.training.lightning_module import FineTuning
from rsft.training.loggers.listener import Tracking
from rsft.training.meta.meta_split import MetaRounds
from rsft.training.optim.losses import make_loss
from rsft.training.precision import HALVES, settle_precision, trainer_precision
from rsft.training.runs.checkpoints import Checkpoint, newest_checkpoint
from rsft.training.runs.reader import RECIPE
from rsft.training.runs.writer import Run, refuse_changed

for _name in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(_name).setLevel(logging.ERROR)  # its banners; what matters is in our display
for _message in (
    ".*num_workers.*",
    ".*eval mode.*",
    ".*LeafSpec.*",
    ".*yielded None.*",
):  # the frozen backbone belongs in eval mode
    warnings.filterwarnings("ignore", message=_message, module="lightning")


def finetune(
    recipe: Recipe,
    runs: Path = Path("runs"),
    listener: Listener | None = None,
    *,
    source: Path | None = None,
    resume: Path | None = None,
) -> Run:
    """Train as `recipe` says and leave a bundle.

    Args:
        source: the recipe's file; the state of the repository that holds it is noted in run.json.
        resume: the folder of a run that is not done, to go on with; `recipe` is its own.

    Raises:
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        RequestError: data or a backbone that is not there, a split without chips.
        DataError: a chip that cannot be read.
        RsftError: a loss that is no longer finite.
    """
    tracking = Tracking(recipe)
    processes = trainer_processes(recipe.train)
    device = own_device(recipe.train.device)
    recipe, arithmetic = settle_precision(recipe, device)
    seed_everything(recipe.seed, verbose=False)
    store = ChipStore.open(Path(recipe.data.root))
    encoder = load_encoder(recipe, store.bands)
    if resume is not None:
        refuse_changed(resume, store.root, encoder.sha256)
    classifier = build_classifier(recipe, len(store.classes), encoder)
    units = sorted(set(store.split("train")["unit"]))
    spacings = store.split("train")["spacing_m"].tolist()
    contract = contract_of(recipe, encoder, store.bands, units, partial(store.pixels, "train"), spacings)
    train, val = (_read(store, split, contract, listener) for split in ("train", "val"))

    run = Run.create(recipe, runs, source) if resume is None else Run.resume(resume)
    with run.going():
        classifier.to(device)
        start = newest_checkpoint(run.checkpoints)
        if recipe.head.init != "random" and start is None:
            _start_head(recipe, classifier, train, encoder.sha256, listener)
        classifier.adapted.checkpointing = recipe.train.checkpointing
        if recipe.train.precision in HALVES:
            classifier.adapted.half_frozen(HALVES[recipe.train.precision])
        inputs = _inputs(recipe, classifier, encoder.sha256, (train, val), listener)
        task, data = _task(recipe, classifier, store, *inputs)
        run.update(
            **arithmetic,
            **_sizes(classifier, train, val),
            device=str(device),
            backbone_sha256=encoder.sha256,
            blocks_kept=max(0, classifier.adapted.first) if isinstance(inputs[0], TokenChips) else 0,
        )
        recorder = Recorder(run, listener, tracking) if run.writing else Recorder(run)
        _fit(recipe, run, task, data, recorder, start, processes)
        if not run.writing:
            return run
        if recipe.meta is not None and recipe.meta.prune_below is not None:
            run.update(pruned_sites=[str(site) for site in classifier.adapted.prune(recipe.meta.prune_below)])
        own = recipe if resume is None else load_recipe(resume / RECIPE)  # without what this sitting overrode
        bundle = _bundle(own, store, contract, encoder.sha256, classifier)
        bundle = judged(bundle, train, val, recipe.train.device, listener.reading if listener else None)
        run.update(bundle_sha256=bundle.save(run.bundle))
        run.finish()
    return run


def _sizes(classifier: Classifier, train: ChipImages, val: ChipImages) -> dict[str, int]:
    parameters = {"trained": classifier.theta, "modulator": classifier.adapted.gamma, "total": classifier.parameters()}
    counts = {f"{name}_parameters": sum(each.numel() for each in own) for name, own in parameters.items()}
    return counts | {"train_chips": len(train), "val_chips": len(val)}


def _bundle(recipe: Recipe, store: ChipStore, contract: Contract, weights: str, classifier: Classifier) -> Bundle:
    return Bundle(
        recipe=recipe,
        classes=store.classes,
        groups={group: tuple(names) for group, names in store.groups.items()},
        train_counts=tuple(int(count) for count in store.counts("train")),
        contract=contract,
        backbone_sha256=weights,
        tensors=classifier.learned_state(),
    )


def _start_head(
    recipe: Recipe, classifier: Classifier, train: ChipImages, weights: str, listener: Listener | None
) -> None:
    """From features of the frozen network."""
    progress = listener.reading if listener else None
    features = start_features(classifier, train, weights, recipe.evaluate.batch_size, progress)
    labels = torch.from_numpy(train.labels).to(features.device)
    start_head(classifier.head, recipe.head, features, labels, recipe.seed)


def _read(store: ChipStore, split: str, contract: Contract, listener: Listener | None) -> ChipImages:
    table = store.split(split)
    if table.empty:
        raise RequestError(
            f"the split {split} has no chips", store.root, "prepare the data with a train and a val split"
        )
    progress = listener.reading if listener else None
    return ChipImages(store.root, table, store.classes, contract, progress)


def _inputs(
    recipe: Recipe,
    classifier: Classifier,
    weights: str,
    splits: tuple[ChipImages, ChipImages],
    listener: Listener | None,
) -> Sequence[Batches]:
    """The chips, or with fixed views their tokens below the first adapted block, where there is room to keep them."""
    adapted, precision = classifier.adapted, recipe.train.precision
    device = next(classifier.parameters()).device
    with torch.autocast(device.type, HALVES.get(precision), enabled=precision in HALVES):
        if recipe.data.augment != "none" or not all(fits(chips, adapted) for chips in splits):
            return splits
        progress, size = listener.reading if listener else None, recipe.evaluate.batch_size
        return [TokenChips(chips, adapted, f"{weights} {precision}", size, progress) for chips in splits]


def meta_batch_size(recipe: Recipe) -> int:
    """Chips in an outer step; where the recipe is silent those of an inner one, or with "joint" as many as let an epoch
    pass over the meta subset once.
    """
    meta = recipe.meta
    assert meta is not None
    if meta.batch_size is not None or meta.schedule == "alternating":
        return meta.batch_size or recipe.train.batch_size
    inner = 1 - meta.ratio if meta.holdout else 1.0
    return max(1, round(recipe.train.batch_size * recipe.train.accumulate * meta.every * meta.ratio / inner))


def _task(
    recipe: Recipe, classifier: Classifier, store: ChipStore, train: Batches, val: Batches
) -> tuple[FineTuning, ChipData]:
    meta, rounds = recipe.meta, None
    if meta is not None:
        rounds = MetaRounds(
            train.labels,
            ratio=meta.ratio,
            holdout=meta.holdout,
            sampling=meta.sampling,
            batch_size=meta_batch_size(recipe),
            seed=recipe.seed,
            length=meta.round,
        )
    data = ChipData(
        train,
        val,
        batch_size=recipe.train.batch_size,
        eval_batch_size=recipe.evaluate.batch_size,
        augmentation=Augmentation(recipe.data.augment, len(train.contract.planes)),
        seed=recipe.seed,
        workers=recipe.data.workers,
        members=rounds.inner if rounds else None,
        sampler=recipe.train.sampler,
    )
    counts = torch.from_numpy(store.counts("train")).float()
    loss = make_loss(recipe.loss, counts)
    groups = {group: [store.classes.index(name) for name in names] for group, names in store.groups.items()}
    return FineTuning(classifier, recipe, loss, train, rounds, groups), data


def _fit(
    recipe: Recipe,
    run: Run,
    task: FineTuning,
    data: ChipData,
    recorder: Recorder,
    start: Checkpoint | None,
    processes: dict[str, Any],
) -> None:
    signals = Signals()
    arithmetic = trainer_precision(recipe.train.precision, task.theta[0].device.type)
    plugins = [*processes.pop("plugins", []), *arithmetic.pop("plugins", [])]
    run.rewind(start.position.epoch if start else 0)
    trainer = Trainer(
        max_epochs=recipe.train.epochs,
        accelerator="gpu" if task.theta[0].is_cuda else "cpu",
        **processes,
        **arithmetic,
        plugins=plugins,
        callbacks=[recorder, *_early_stopping(recipe), Survival(run, recipe.train, start, signals)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=recipe.evaluate.every,
        reload_dataloaders_every_n_epochs=1,
    )
    task.classifier.adapted.additive.train()  # the frozen backbone stays in evaluation mode
    try:
        trainer.fit(task, datamodule=data)
    finally:
        signals.restore()
    if signals.caught:  # after the last step
        raise Interrupted(signals.caught, "saved at the end of training")


def _early_stopping(recipe: Recipe) -> list[Callback]:
    if recipe.train.patience is None:
        return []
    return [Patience(recipe.train.patience, recipe.train.min_delta)]
