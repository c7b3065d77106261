"""A small network without pre-training, trained on the chips of a recipe: the bar that a fine-tuned encoder must clear.

The settings are those of recipes/mstar_lt_small.yaml. The number of epochs follows from the number of chips and from
the time that training may take.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rsft.backbones.loading import find_card
from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.models.classifier import choose_device, collect_outputs, load_or_compute, move_network, with_tta
from rsft.models.uncertainty.statistics import log_softmax
from rsft.recipe.library import SMALL_NETWORK_RECIPE, find_recipe
from rsft.recipe.load import load_recipe
from rsft.recipe.schema import BackboneSection, Recipe
from rsft.training.finetune import TrainingSetup, initialize_weights, make_learner, seed_generators, set_up
from rsft.training.fit import train_epoch
from rsft.training.processes import launch_processes, without_others
from rsft.training.runs.reader import hash_manifest
from rsft.types import Progress
from rsft.version import __version__

ROUNDS = 50
"""Rounds of training: epochs, or several epochs each if an epoch has few steps. The first one is the warm-up."""

MIN_ROUNDS = 5
"""Rounds that training takes in any case."""

MIN_STEPS = 1000
"""Steps of the whole training, at least; of fewer steps, the network does not learn."""

SIZES = (32, 48)
"""Sides of the input in pixels."""

BATCH_SIZE = 32

_SUFFIX = ".small-network.npz"


def small_network_recipe(recipe: Recipe, store: ChipStore) -> Recipe:
    """Return the recipe of the small network for the chips of a store.

    Args:
        recipe: a recipe for the same chips; crop, bands, unit, declared quantity, augmentation, seed and device are
            taken from it.
        store: the chips.

    Returns:
        A recipe for `rsft.finetune`, with the epochs of a training without a limit of time.
    """
    data, side = recipe.data, recipe.data.crop or recipe.data.size
    steps = math.ceil(len(store.split("train")) / BATCH_SIZE)
    epochs_per_round = math.ceil(MIN_STEPS / (ROUNDS * max(1, steps)))
    augment = data.augment
    if augment == "none":
        augment = "sar" if data.declare is not None or store.is_radar else "optical"
    shipped = load_recipe(find_recipe(SMALL_NETWORK_RECIPE))
    size = next((size for size in SIZES if side <= size), SIZES[-1])
    chips = {"root": str(store.root), "size": size, "augment": augment}
    chips |= {key: getattr(data, key) for key in ("crop", "bands", "unit", "declare")}
    rounds = {"epochs": ROUNDS * epochs_per_round, "warmup_epochs": float(epochs_per_round)}
    sections: dict[str, Any] = {
        "data": shipped.data.model_copy(update=chips),
        "train": shipped.train.model_copy(update=rounds | {"device": recipe.train.device}),
        "evaluate": shipped.evaluate.model_copy(update={"every": 10 * epochs_per_round}),
    }
    return shipped.model_copy(update={"name": "small-network", "seed": recipe.seed, **sections})


def starts_at_random(backbone: BackboneSection) -> bool:
    """Return whether a recipe itself describes a network without pre-training."""
    return backbone.weights is None and find_card(backbone.name).weights is None


class SmallNetworkResult(NamedTuple):
    """What the small network predicts.

    Attributes:
        probabilities: (N, C), in the order of the classes of the store.
        epochs: number of epochs, ().
    """

    probabilities: NDArray[np.float64]
    epochs: NDArray[np.int64]


def predict_with_small_network(
    recipe: Recipe, split: str, cpu_seconds: float, cache_folder: Path, progress: Progress | None = None
) -> SmallNetworkResult:
    """Return the predictions of the small network, from disk if it was trained on the same chips before.

    Args:
        recipe: its recipe, from `small_network_recipe`.
        split: the split that is predicted.
        cpu_seconds: see `train_small_network`.
        cache_folder: folder of the cache of the chip store.
        progress: called while chips are read, and after each epoch.

    Raises:
        RequestError: the splits train and val need chips, and the training chips at least two classes.
        DataError: a chip cannot be read.
        RsftError: a loss is not finite, or the disk has no room for the images of the chips.
    """
    root, device = Path(recipe.data.root), choose_device(recipe.train.device).type
    settings = recipe.model_dump(mode="json", exclude={"data": {"root"}, "train": {"device"}})
    classes = ChipStore.open(root).classes
    content = [__version__, device, hash_manifest(root), classes, split, cpu_seconds, settings]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]

    def compute() -> dict[str, NDArray[Any]]:
        with _single_thread(), without_others():
            setup, epochs = train_small_network(recipe, cpu_seconds, progress)
            store = setup.store
            model, contract = with_tta(setup.classifier.eval(), setup.contract, recipe.evaluate)
            chips = ChipImages(store.root, store.split(split), store.classes, contract, progress)
            logits = collect_outputs(model, chips.batches(recipe.evaluate.batch_size)).logits
        return SmallNetworkResult(np.exp(log_softmax(logits)), np.array(epochs))._asdict()

    path = cache_folder / f"{digest}{_SUFFIX}"
    return SmallNetworkResult(**load_or_compute(path, SmallNetworkResult._fields, compute))


def train_small_network(
    recipe: Recipe, cpu_seconds: float = math.inf, progress: Progress | None = None
) -> tuple[TrainingSetup, int]:
    """Train the small network as `rsft.finetune` does, but write no run folder and do not validate it.

    The time of the first round decides how many rounds follow. It is the warm-up, which does not depend on their
    number. So the network is that of a recipe with this number of epochs.

    Args:
        recipe: its recipe, from `small_network_recipe`.
        cpu_seconds: CPU time that training may take; it takes `MIN_ROUNDS` in any case.
        progress: called while chips are read, and after each epoch.

    Returns:
        Data and trained network, and the number of epochs.

    Raises:
        RequestError: the splits train and val need chips, and the training chips at least two classes.
        DataError: a chip cannot be read.
        RsftError: a loss is not finite, or the disk has no room for the images of the chips.
    """
    seed_generators(recipe.seed)
    setup = set_up(recipe, progress=progress)
    processes = launch_processes(recipe.train, choose_device(recipe.train.device))
    move_network(setup.classifier, processes.device)
    initialize_weights(setup, recipe, progress)
    learner = make_learner(recipe, setup, progress=progress)
    epochs, epochs_per_round = recipe.train.epochs, recipe.train.epochs // ROUNDS
    began, epoch = time.process_time(), 0
    while epoch < epochs:
        for _ in train_epoch(processes, learner, epoch):
            pass
        epoch += 1
        if epoch == epochs_per_round:
            rounds = cpu_seconds / max(time.process_time() - began, 1e-3)
            epochs = epochs_per_round * int(min(max(rounds, MIN_ROUNDS), ROUNDS))
            learner.train = learner.train.model_copy(update={"epochs": epochs})
        if progress is not None:
            progress(epoch, epochs, "small network, epoch")
    learner.keep_average()
    return setup, epochs


@contextmanager
def _single_thread() -> Iterator[None]:
    """Compute in one thread: more threads mostly wait in so small a network, and the result would depend on them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
