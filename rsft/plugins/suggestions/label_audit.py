"""Find wrong labels by classifiers that have not seen the label of a chip.

Two classifiers are fitted on four fifths of the chips and predict the last fifth, in
turn: a linear probe on features of an encoder, and k-nearest neighbors on small images.
Neighbors recognize images of the same object; on scenes, whose pixels say little, they
are of no use. So both probabilities are averaged with the weight that predicts the
labels best.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from rsft.data.chips.folds import assign_folds
from rsft.data.chips.store import ChipStore
from rsft.data.imagery.contract import Contract
from rsft.data.imagery.reader import read_chip
from rsft.data.loading.byte_images import ByteImages
from rsft.errors import DataError, RequestError
from rsft.evaluation.baselines import (
    balance_votes,
    flatten_small_image,
    knn_predict,
    linear_probe_predict,
)
from rsft.models.classifier import Classifier
from rsft.models.contract_fitting import fit_contract
from rsft.models.devices import choose_device, copy_to_device, move_network
from rsft.models.loading import build_classifier, load_encoder
from rsft.recipe.schema import Recipe
from rsft.types import Floats, Indices, Names, Pixels, Progress, Reals
from rsft.utils.progress import track

FOLDS = 5
"""Number of folds of the cross-validation."""

_RECIPE = {
    "name": "label audit",
    "data": {"root": "chips", "size": 64, "remap": "expand"},
    "peft": {"method": "linear-probe"},
    # the mean patch tokens after them, beside the class token
    "head": {"earlier_blocks": [0, 1, 2, 3, 4]},
    "train": {"epochs": 1},
}
_GROUPS = {"group_key": "scene", "mmsi": "vessel"}
_BATCH = 128  # chips in a forward pass
# of the neighbors: with more, wrong labels among them confirm wrong labels
_WEIGHTS = np.linspace(0, 0.5, 11)
_MANY = 0.25  # share of contradicted labels; data sets with as many wrong ones are rare
# of a probability, so that neighbors without a vote for the label do not decide alone
_FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class ChipFeatures:
    """Features of the chips that can be read.

    Attributes:
        table: rows of these N chips, such as those of a manifest.
        features: of an encoder (N, D).
        pixels: small images (N, P).
        notes: which chips were left out.
    """

    table: pd.DataFrame
    features: Reals
    pixels: Reals
    notes: list[str]


@dataclass(frozen=True, eq=False)
class OutOfFoldPredictions:
    """Probabilities of chips from classifiers that have not seen their labels.

    Attributes:
        table: manifest rows of the N chips.
        probe: probabilities of the linear probe (N, C).
        neighbors: probabilities of the nearest neighbors (N, C).
        pixel_weight: weight of the neighbors, from 0 to 0.5; the other part is that of
            the probe.
        notes: which chips were left out, and what limits the result.
    """

    table: pd.DataFrame
    probe: Floats
    neighbors: Floats
    pixel_weight: float
    notes: list[str]

    @property
    def probabilities(self) -> Floats:
        """The weighted mean of both (N, C)."""
        weight = self.pixel_weight
        return (1 - weight) * self.probe + weight * self.neighbors


ReadChip = Callable[[int], Pixels]
"""Reads a chip by its number."""


def read_chip_features(
    store: ChipStore, device: str = "auto", progress: Progress | None = None
) -> ChipFeatures:
    """Read the chips of all splits of a store, and compute their features.

    Nothing is written into the store. The cache of training is not used, because it
    lies in the store.
    """
    paths = [store.root / path for path in store.table["path"]]

    def read(number: int) -> Pixels:
        return read_chip(paths[number])

    return compute_chip_features(store.table, store.bands, read, device, progress)


@torch.inference_mode()
def compute_chip_features(
    table: pd.DataFrame,
    bands: Names,
    read: ReadChip,
    device: str = "auto",
    progress: Progress | None = None,
) -> ChipFeatures:
    """Compute the features of chips by the embedded encoder.

    They are those that the head of a classifier reads, each part of them with the norm
    1.

    Args:
        table: one row per chip; `path`, for messages, and `unit`.
        bands: names of the bands of all chips.
        read: reads the chip of a row.
        device: "auto", "cpu" or "cuda".
        progress: called while chips are read.

    Raises:
        DataError: no chip can be read.
    """
    target = choose_device(device)
    units = table["unit"].tolist()
    classifier, contract = _load_encoder(units, bands, read)
    move_network(classifier, target).eval()
    parts = 1 + len(classifier.adapted.output_blocks)
    usable: list[int] = []
    features = []
    pixels: list[Reals] = []
    faults = []
    for start in range(0, len(table), _BATCH):
        images = []
        for number in range(start, min(start + _BATCH, len(table))):
            try:
                images.append(contract.to_image(read(number), units[number]))
                usable.append(number)
            except DataError as error:
                faults.append(f"{table['path'].iloc[number]}: {error.message}")
        if images:
            x = classifier.head_inputs(
                copy_to_device(ByteImages.stack(images, contract), target)
            ).float()
            x = functional.normalize(x.reshape(len(x), parts, -1), dim=2)
            features.append(x.flatten(1).cpu().numpy())
            pixels += map(flatten_small_image, images)
        if progress is not None:
            done = min(start + _BATCH, len(table))
            progress(done, len(table), "reading chips")
    notes = []
    if faults:
        notes.append(
            f"chips that cannot be read, and were left out: {len(faults):,}, such as"
            f" {faults[0]}"
        )
    if not usable:
        raise DataError("no chip can be read", faults[0], "prepare the chips again")
    return ChipFeatures(
        table.iloc[usable], np.concatenate(features), np.concatenate(pixels), notes
    )


def _load_encoder(
    units: Sequence[str], bands: Names, read: ReadChip
) -> tuple[Classifier, Contract]:
    """Return the embedded encoder as a classifier, and its contract."""

    def read_all(unit: str) -> Iterator[Pixels]:
        for number, other in enumerate(units):
            if other == unit:
                with suppress(DataError):  # they are counted later
                    yield read(number)

    recipe = Recipe.model_validate(_RECIPE)
    encoder = load_encoder(recipe, bands)
    readable = [x for x in sorted(set(units)) if next(read_all(x), None) is not None]
    classifier = build_classifier(encoder, 2, recipe)
    return classifier, fit_contract(recipe.data, encoder, bands, readable, read_all)


def predict_out_of_fold(
    inputs: ChipFeatures, classes: Sequence[str], progress: Progress | None = None
) -> OutOfFoldPredictions:
    """Predict each chip by classifiers fitted on chips of other scenes and vessels.

    The folds depend on the manifest alone, and nothing else is random.

    Args:
        inputs: the chips.
        classes: names of the C classes.
        progress: called after each fold.

    Returns:
        The predictions of the chips that could be checked. A chip whose class has no
        other chips, or those of one scene only, cannot be.

    Raises:
        RequestError: no chip can be checked.
    """
    table = inputs.table
    count = len(classes)
    labels = np.array([list(classes).index(name) for name in table["class"]], np.int64)
    folds, keys = assign_folds(table, FOLDS)
    is_checked = folds > 0
    if not is_checked.any():
        raise RequestError(
            "no label can be checked: each class has one chip, or the chips of one"
            " scene",
            hint="prepare more chips or scenes of each class",
        )
    probe, neighbors = np.zeros((2, len(labels), count))
    for fold in track(range(1, FOLDS + 1), FOLDS, progress, "cross-validation"):
        inside = folds == fold
        known = labels[folds != fold]
        if inside.any():
            x = inputs.features
            probe[inside] = linear_probe_predict(x[~inside], known, x[inside], count)
            x = inputs.pixels
            votes = knn_predict(x[~inside], known, x[inside], count, metric="euclidean")
            neighbors[inside] = balance_votes(votes, known)
    probe = probe[is_checked]
    neighbors = neighbors[is_checked]
    labels = labels[is_checked]
    weight = choose_weight(probe, neighbors, labels)
    notes = list(inputs.notes)
    if not is_checked.all():
        notes.append(
            "chips that were not checked, because their class has too few chips or"
            f" scenes: {(~is_checked).sum():,}"
        )
    if not table[list(_GROUPS)].fillna("").to_numpy(bool).any():
        keys = ()
    shared = [name for key, name in _GROUPS.items() if key not in keys]
    if shared:
        notes.append(f"chips of one {' and '.join(shared)} may check each other")
    result = OutOfFoldPredictions(
        table[is_checked].reset_index(drop=True), probe, neighbors, weight, notes
    )
    if (result.probabilities.argmax(axis=1) != labels).mean() > _MANY:
        notes.append(
            "more than a quarter is contradicted: most of these labels are right, but"
            " hard to tell apart"
        )
    return result


def choose_weight(probe: Floats, neighbors: Floats, labels: Indices) -> float:
    """Return the weight of `neighbors`, from 0 to 0.5, that predicts labels best.

    The prediction is the weighted mean of both.

    Args:
        probe: probabilities (N, C).
        neighbors: probabilities (N, C).
        labels: (N,) class indices.
    """
    rows = np.arange(len(labels))
    first = probe[rows, labels]
    second = neighbors[rows, labels]
    likelihoods = [
        np.log((1 - weight) * first + weight * second + _FLOOR).mean()
        for weight in _WEIGHTS
    ]
    return float(_WEIGHTS[np.argmax(likelihoods)])
