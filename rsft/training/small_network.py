"""A small network without pre-training: the bar that a fine-tuned encoder must clear.

The settings are those of recipes/mstar_lt_small.yaml. The number of epochs follows from
the number of chips alone, so that the result does not depend on the machine. A limit of
time ends a training without a result.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

from rsft.backbones.loading import find_card
from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.errors import RsftError
from rsft.models.averaging import with_tta
from rsft.models.batch_outputs import collect_outputs
from rsft.models.devices import choose_device, move_network
from rsft.models.uncertainty.temperature import log_softmax
from rsft.recipe.library import SMALL_NETWORK_RECIPE, find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import BackboneSection, Recipe
from rsft.training.assembly import make_learner
from rsft.training.epochs import count_epochs
from rsft.training.fit import train_epoch
from rsft.training.processes import launch_processes, without_others
from rsft.training.runs.reader import hash_manifest
from rsft.training.setup import (
    TrainingSetup,
    initialize_weights,
    seed_generators,
    set_up,
)
from rsft.types import Floats, Progress
from rsft.utils.atomic_files import atomic_file
from rsft.utils.progress import track
from rsft.version import __version__

STEPS = 1000
"""Steps of the training, rounded up to whole epochs. With fewer steps the network does
not learn."""

WARMUP_SHARE = 1 / 50
"""Share of the steps in which the learning rate rises, as in the recipe."""

SIZES = (32, 48)
"""Sides of the input in pixels."""

BATCH_SIZE = 32

_SUFFIX = ".small-network.npy"


def small_network_recipe(recipe: Recipe, store: ChipStore) -> Recipe:
    """Return the recipe of the small network for the chips of a store.

    Args:
        recipe: a recipe for the same chips; crop, bands, unit, declared quantity,
            augmentation, seed and device are taken from it.
        store: the chips.

    Returns:
        A recipe for `rsft.finetune`.
    """
    data = recipe.data
    side = data.crop or data.size
    epochs = count_epochs(STEPS, int(store.class_counts("train").sum()), BATCH_SIZE)
    augment = data.augment
    if augment == "none":
        if data.declare is not None or store.is_radar:
            augment = "sar"
        else:
            augment = "optical"
    shipped = load_recipe(find_recipe(SMALL_NETWORK_RECIPE))
    size = next((size for size in SIZES if side <= size), SIZES[-1])
    chips = {key: getattr(data, key) for key in ("crop", "bands", "unit", "declare")}
    small = shipped.model_copy(update={"name": "small-network", "seed": recipe.seed})
    small = small.with_keys(
        "data", root=str(store.root), size=size, augment=augment, **chips
    )
    return small.with_keys(
        "train",
        epochs=epochs,
        warmup_epochs=epochs * WARMUP_SHARE,
        device=recipe.train.device,
    )


def starts_at_random(backbone: BackboneSection) -> bool:
    """Return whether a recipe itself describes a network without pre-training."""
    card = find_card(backbone.name)
    return backbone.weights is None and card.weights is None and not card.is_frozen


def predict_with_small_network(
    recipe: Recipe,
    split: str,
    cpu_seconds: float,
    cache_folder: Path,
    progress: Progress | None = None,
) -> Floats:
    """Return the predictions of the small network, from disk if they are there.

    Args:
        recipe: its recipe, from `small_network_recipe`.
        split: the split that is predicted.
        cpu_seconds: see `train_small_network`.
        cache_folder: folder of the cache of the chip store.
        progress: called while chips are read, and after each epoch.

    Returns:
        Probabilities (N, C) of the chips of the split, in the order of the classes of
        the store.

    Raises:
        RequestError: the splits train and val need chips, and the training chips at
            least two classes.
        DataError: a chip cannot be read.
        RsftError: the limit of time is reached, a loss is not finite, or the disk has
            no room for the images.
    """
    root = Path(recipe.data.root)
    device = choose_device(recipe.train.device).type
    settings = recipe.model_dump(
        mode="json", exclude={"data": {"root"}, "train": {"device"}}
    )
    classes = ChipStore.open(root).classes
    content = [__version__, device, hash_manifest(root), classes, split, settings]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path = cache_folder / f"{digest[:24]}{_SUFFIX}"
    with suppress(OSError, ValueError, EOFError):  # a damaged file is computed again
        return np.asarray(np.load(path))
    with _single_thread(), without_others():
        setup = train_small_network(recipe, cpu_seconds, progress)
        store = setup.store
        model, contract = with_tta(
            setup.classifier.eval(), setup.contract, recipe.evaluate
        )
        chips = ChipImages(
            store.root, store.split(split), store.classes, contract, progress
        )
        batches = chips.batches(recipe.evaluate.batch_size)
        logits = collect_outputs(model, batches).logits
    probabilities: np.ndarray = np.exp(log_softmax(logits))
    # a full disk: only a cache
    with (
        suppress(OSError),
        atomic_file(path) as temporary,
        temporary.open("wb") as file,
    ):
        np.save(file, probabilities)
    return probabilities


def train_small_network(
    recipe: Recipe, cpu_seconds: float = math.inf, progress: Progress | None = None
) -> TrainingSetup:
    """Train the small network without a run folder and without validation.

    Args:
        recipe: its recipe, from `small_network_recipe`.
        cpu_seconds: CPU time after which training ends without a result; reading the
            chips is not counted.
        progress: called while chips are read, and after each epoch.

    Returns:
        Data and trained network.

    Raises:
        RequestError: the splits train and val need chips, and the training chips at
            least two classes.
        DataError: a chip cannot be read.
        RsftError: the limit of time is reached, a loss is not finite, or the disk has
            no room for the images.
    """
    seed_generators(recipe.seed)
    setup = set_up(recipe, progress=progress)
    device, _ = launch_processes(recipe.train, choose_device(recipe.train.device))
    move_network(setup.classifier, device)
    initialize_weights(setup, progress)
    learner = make_learner(setup, progress=progress)
    epochs = recipe.train.epochs
    end = time.process_time() + cpu_seconds
    for epoch in track(range(epochs), epochs, progress, "small network, epoch"):
        for _ in train_epoch(learner, epoch):
            if time.process_time() > end:
                raise RsftError(
                    (
                        f"cut off in epoch {epoch + 1:,} of {epochs:,} after"
                        f" {cpu_seconds:g} CPU seconds"
                    ),
                    "evaluate.baselines",
                    "give it more CPU seconds, or 0 to train none",
                )
    learner.finish()
    return setup


@contextmanager
def _single_thread() -> Iterator[None]:
    """Compute in one thread: the result would depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
