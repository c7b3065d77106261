"""The job of `rsft finetune`: a recipe in, a run folder with a bundle out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from rsft.bundle import Bundle
from rsft.chips.dataset import Batches, ChipData, ChipImages
from rsft.chips.store import ChipStore
from rsft.classifier import Classifier, build_classifier, choose_device, contract_of, load_encoder
from rsft.errors import RequestError
from rsft.finetune.heads import start_at_class_means
from rsft.finetune.losses import make_loss
from rsft.finetune.recorder import Listener, Recorder
from rsft.finetune.rounds import MetaRounds
from rsft.finetune.runs import Run
from rsft.finetune.task import FineTuning
from rsft.finetune.tokens import TokenChips, fits
from rsft.imagery.augment import Augmentation
from rsft.imagery.contract import Contract
from rsft.recipe.schema import Recipe

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # its banners; what matters is in our display
for _message in (".*num_workers.*", ".*eval mode.*", ".*LeafSpec.*"):  # the frozen backbone belongs in eval mode
    warnings.filterwarnings("ignore", message=_message, module="lightning")


def finetune(recipe: Recipe, runs: Path = Path("runs"), listener: Listener | None = None) -> Run:
    """Train as `recipe` says and leave a bundle.

    Raises:
        RequestError: data or a backbone that is not there, a split without chips.
        DataError: a chip that cannot be read.
        RsftError: a loss that is no longer finite.
    """
    seed_everything(recipe.seed, verbose=False)
    store = ChipStore.open(Path(recipe.data.root))
    encoder = load_encoder(recipe, store.bands)
    classifier = build_classifier(recipe, len(store.classes), encoder)
    units = sorted(set(store.split("train")["unit"]))
    contract = contract_of(recipe, encoder, store.bands, units, partial(store.pixels, "train"))
    train, val = (_read(store, split, contract, listener) for split in ("train", "val"))

    run = Run.create(recipe, runs)
    device = choose_device(recipe.train.device)
    classifier.to(device)
    counts = store.counts("train")
    if recipe.head.init == "class-mean":
        features = frozen_features(classifier, train, recipe.evaluate.batch_size, device)
        start_at_class_means(classifier.head, features, torch.from_numpy(train.labels).to(device))
    classifier.adapted.checkpointing = recipe.train.checkpointing
    if recipe.train.precision == "bf16":
        classifier.adapted.half_frozen()
    inputs = _inputs(recipe, classifier, encoder.sha256, (train, val), listener)
    task, data = _task(recipe, classifier, store, *inputs)
    run.update(
        device=str(device),
        trained_parameters=sum(parameter.numel() for parameter in classifier.theta),
        modulator_parameters=sum(parameter.numel() for parameter in task.gamma),
        total_parameters=sum(parameter.numel() for parameter in classifier.parameters()),
        train_chips=len(train),
        val_chips=len(val),
        blocks_kept=max(0, classifier.adapted.first) if isinstance(inputs[0], TokenChips) else 0,
    )
    if listener is not None:
        listener.started(run, run.facts)
    _fit(recipe, run, task, data, listener)
    if recipe.meta is not None and recipe.meta.prune_below is not None:
        run.update(pruned_sites=[str(site) for site in classifier.adapted.prune(recipe.meta.prune_below)])
    bundle = Bundle(
        recipe=recipe,
        classes=store.classes,
        groups={group: tuple(names) for group, names in store.groups.items()},
        train_counts=tuple(int(count) for count in counts),
        contract=contract,
        backbone_sha256=encoder.sha256,
        tensors=classifier.learned_state(),
    )
    run.update(bundle_sha256=bundle.save(run.bundle), backbone_sha256=encoder.sha256)
    run.finish()
    return run


@torch.no_grad()
def frozen_features(classifier: Classifier, chips: ChipImages, batch_size: int, device: torch.device) -> Tensor:
    """Features of all chips, not augmented (N, D)."""
    classifier.eval()
    return torch.cat([classifier.features(inputs.to(device)) for inputs, _ in chips.batches(batch_size)])


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
    with torch.autocast(next(classifier.parameters()).device.type, torch.bfloat16, enabled=precision == "bf16"):
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
    )
    counts = torch.from_numpy(store.counts("train")).float()
    loss = make_loss(recipe.loss.name, counts, recipe.loss.tau)
    groups = {group: [store.classes.index(name) for name in names] for group, names in store.groups.items()}
    return FineTuning(classifier, recipe, loss, train, rounds, groups), data


def _fit(recipe: Recipe, run: Run, task: FineTuning, data: ChipData, listener: Listener | None) -> None:
    trainer = Trainer(
        max_epochs=recipe.train.epochs,
        accelerator="gpu" if task.theta[0].is_cuda else "cpu",
        devices=1,
        precision="bf16-mixed" if recipe.train.precision == "bf16" else "32-true",
        callbacks=[Recorder(run, listener), *_early_stopping(recipe)],
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
    except SystemExit as stop:  # Lightning's answer to Ctrl-C
        run.finish("interrupted")
        raise KeyboardInterrupt from stop
    except BaseException:
        run.finish("failed")
        raise


def _early_stopping(recipe: Recipe) -> list[Callback]:
    if recipe.train.patience is None:
        return []
    patience, least = recipe.train.patience, recipe.train.min_delta
    return [EarlyStopping("val_macro", mode="max", patience=patience, min_delta=least)]
