"""Data and network of a run before its training."""

import logging
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rsft.backbones import Backbone
from rsft.data.chips.class_names import list_first_names, missing_classes
from rsft.data.chips.folds import open_store
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.loading.batches import ChipImages
from rsft.data.loading.pool import Pool, open_pool
from rsft.errors import RequestError
from rsft.models.classifier import Classifier
from rsft.models.contract_fitting import fit_contract
from rsft.models.loading import build_classifier, load_encoder
from rsft.peft.modules.adapter_module import transformer_blocks
from rsft.recipe.schema import DataSection, Recipe
from rsft.training.init.frozen_features import compute_initial_features
from rsft.training.init.head_init import init_head
from rsft.training.init.start_bundle import StartBundle
from rsft.training.processes import is_rank_zero
from rsft.types import Progress
from rsft.utils.progress import announce

_log = logging.getLogger(__name__)


def seed_generators(seed: int) -> None:
    """Seed the global random generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@dataclass(frozen=True)
class TrainingSetup:
    """Recipe, data and network of a run before its training.

    Attributes:
        store: the chip store, with the classes of the start bundle.
        contract: how a chip becomes the network's input.
        start: the bundle at which the run starts.
        pool: the unlabeled chips; None without `data.unlabeled`.
    """

    recipe: Recipe
    store: ChipStore
    train: ChipImages
    val: ChipImages
    encoder: Backbone
    classifier: Classifier
    contract: Contract
    start: StartBundle | None
    pool: Pool | None = None


def open_data(section: DataSection, start: StartBundle | None = None) -> ChipStore:
    """Open the chips of a run; classes of the start bundle come after their own.

    Raises:
        RequestError: the folder is not a chip store, a split has no chips, or all
            training chips have one class.
    """
    store = open_store(Path(section.root), section.fold)
    for split in ("train", "val"):
        if store.split(split).empty:
            raise RequestError(
                f"the split {split} has no chips",
                store.root,
                "prepare the data with a train and a val split",
            )
    classes = store.split("train")["class"].unique()
    if classes.size < 2:
        raise RequestError(
            (
                f"all training chips have the class {classes[0]}, so that a classifier"
                " has nothing to distinguish"
            ),
            store.root,
            "prepare training chips of at least two classes",
        )
    if not start:
        return store
    return start.extend_classes(store)


def set_up(
    recipe: Recipe,
    start: StartBundle | None = None,
    progress: Progress | None = None,
) -> TrainingSetup:
    """Open the chips, fit backbone and contract to them, and build the network.

    Args:
        recipe: the recipe of the run.
        start: the bundle at which the run starts; its contract is used in place of a
            new one.
        progress: called while chips are read.

    Returns:
        The setup. The network is on the CPU, in evaluation mode, without the tensors of
        `start`.

    Raises:
        RequestError: the backbone is unknown, lacks a site of the recipe, or does not
            suit the chips.
        WeightsError: the weights of the backbone cannot be used.
        DataError: a chip cannot be read.
    """
    store = open_data(recipe.data, start)
    if is_rank_zero() and recipe.data.fold is None:
        for split, names in missing_classes(store.counts).items():
            _log.warning("no chip in %s: %s", split, list_first_names(names))
    announce(progress, f"weights of {recipe.backbone.name}")
    start_sha256 = start.bundle.backbone_sha256 if start else None
    encoder = load_encoder(recipe, store.bands, start_sha256)
    classifier = build_classifier(encoder, len(store.classes), recipe)
    if start:
        contract = start.adopt_contract(store, encoder)
    else:
        contract = _measure_contract(recipe.data, store, encoder)
    if recipe.train.last_blocks is not None:
        if encoder.is_random and not start:
            raise RequestError(
                f"{encoder.name} starts at random weights, which train.last_blocks"
                " would leave in the first blocks",
                "train.last_blocks",
                "leave the key out, or name a train.start_bundle",
            )
        _keep_first_blocks(classifier, recipe.train.last_blocks)
    train, val = read_splits(store, contract, progress)
    pool = None
    if recipe.data.unlabeled is not None:
        pool = open_pool(recipe.data.unlabeled, store, contract, progress)
        if is_rank_zero():
            _log.warning("%s: %s", recipe.data.unlabeled, pool.describe())
    return TrainingSetup(
        recipe, store, train, val, encoder, classifier, contract, start, pool
    )


def _measure_contract(
    data: DataSection, store: ChipStore, encoder: Backbone
) -> Contract:
    """Return the contract of the training chips."""
    table = store.split("train")
    contract = fit_contract(
        data,
        encoder,
        store.bands,
        sorted(table["unit"].unique()),
        partial(store.iter_pixels, "train"),
        table["spacing_m"].tolist(),
        store.sample_sides("train") if data.crop is None else [],
    )
    if contract.clipping_note and is_rank_zero():
        _log.warning("%s", contract.clipping_note)
    return contract


def _keep_first_blocks(classifier: Classifier, last_blocks: int) -> None:
    """Let the modules and scales of all but the last blocks stay as they are."""
    depth = len(transformer_blocks(classifier.adapted.vit))
    if last_blocks > depth:
        raise RequestError(
            f"the network has {depth} blocks, fewer than {last_blocks}",
            "train.last_blocks",
            f"set train.last_blocks to {depth} or less",
        )
    first = depth - last_blocks if last_blocks else depth + 1
    classifier.adapted.keep_before(first)


def read_splits(
    store: ChipStore, contract: Contract, progress: Progress | None
) -> tuple[ChipImages, ChipImages]:
    """Return the training and the validation chips as images."""
    splits = [
        ChipImages(store.root, store.split(x), store.classes, contract, progress)
        for x in ("train", "val")
    ]
    return splits[0], splits[1]


def initialize_weights(setup: TrainingSetup, progress: Progress | None = None) -> None:
    """Load the tensors of the start bundle, or initialize the head.

    Raises:
        RequestError: a class has no training chip.
        WeightsError: a tensor of the start bundle does not fit.
    """
    recipe = setup.recipe
    if setup.start:
        setup.start.load_into(
            setup.classifier, setup.train, setup.store.classes, recipe
        )
    elif recipe.head.init != "random":
        batch_size = recipe.evaluate.batch_size
        sha256 = setup.encoder.sha256
        if setup.encoder.is_random:  # the hash does not depend on the weights
            sha256 += f" of seed {recipe.seed}"
        features = compute_initial_features(
            setup.classifier, setup.train, sha256, batch_size, progress
        )
        labels = torch.from_numpy(setup.train.labels).to(features.device)
        init_head(setup.classifier.head, recipe.head, features, labels, recipe.seed)
