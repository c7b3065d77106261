"""Evaluate a bundle on one split of a chip store, and compare it with cheap baselines.

The baselines are a linear probe, a discriminant and k-nearest neighbors on frozen
features, and the latter on small images. The linear probe has the same logit adjustment
as the default loss, so the difference to it is the gain of the trained modules. Plain
k-NN has no answer to a long tail. A small network without pre-training shows what the
encoder is worth.

The features are mapped before and after fine-tuning.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from rsft.data.chips.class_names import list_first_names
from rsft.data.chips.folds import HeldOutStore, open_store
from rsft.data.chips.manifest import MANIFEST
from rsft.data.chips.record import describe_groups
from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages
from rsft.data.loading.byte_images import Inputs
from rsft.errors import RequestError, RsftError
from rsft.evaluation import schema
from rsft.evaluation.baselines import (
    MAX_PROBE_CHIPS,
    balance_votes,
    choose_probe_chips,
    discriminant_predict,
    flatten_small_image,
    knn_predict,
    linear_probe_predict,
)
from rsft.evaluation.calibration_report import estimate_by_scene, measure_calibration
from rsft.evaluation.embedding import MAX_MAP_CHIPS, tsne
from rsft.evaluation.files import (
    EMBEDDING_FILE,
    write_parquet,
    write_predictions,
)
from rsft.evaluation.leaks import SEEN_SPLITS, count_leaks
from rsft.evaluation.schema import ALL_CHIPS, CHIPS_DIR, EVALUATION_FILE
from rsft.metrics.accuracy import confusion_matrix, summarize_accuracy
from rsft.metrics.comparison import compare_predictions
from rsft.models.batch_outputs import compute_batches
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import extract_features
from rsft.models.devices import copy_to_device
from rsft.models.loading import load_unmerged_classifier
from rsft.models.outputs import ClassifierOutputs
from rsft.models.uncertainty.temperature import log_softmax
from rsft.training.classify import classify_chips
from rsft.training.small_network import (
    predict_with_small_network,
    small_network_recipe,
    starts_at_random,
)
from rsft.types import Indices, Progress
from rsft.utils.atomic_files import write_json
from rsft.utils.memory import return_freed_memory
from rsft.utils.progress import announce
from rsft.utils.stored_rows import StoredRows

_Probabilities = NDArray[np.float64]


def evaluate(
    bundle_dir: Path,
    root: Path,
    output_dir: Path,
    *,
    split: str | None = None,
    baselines: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> schema.Evaluation:
    """Classify the chips of a split, and write the results to a folder.

    The files are metrics.json and predictions.parquet; with `baselines` also
    embedding.parquet.

    Args:
        bundle_dir: folder of the bundle of a run.
        root: a chip store with the bundle's classes; with the split "all" also class
            folders, which are copied to a chip store in `output_dir`.
        output_dir: folder for the files.
        split: a split of the store. None takes the split of the recipe; its default is
            test, or val without test chips. A run on a fold (`data.fold`) is evaluated
            on the chips of the fold. "all" is for chips of another source: each one is
            a test chip, and the baselines and the search for leaks take the chips of
            the bundle's training.
        baselines: also evaluate a linear probe, a linear discriminant and k-nearest
            neighbors on frozen features, k-nearest neighbors on pixels of the training
            split, and, unless `evaluate.baselines` is 0, a small network without
            pre-training; and map the features before and after fine-tuning.
        device: "auto", "cpu" or "cuda".
        progress: called while chips are read and classified.

    Returns:
        The content of metrics.json.

    Raises:
        RequestError: the classes differ, or the split has no chips.

    Example:
        >>> import rsft
        >>> run, data, out = map(Path, ("runs/ships", "data/ships", "evaluation"))
        >>> metrics = rsft.evaluate(run, data, out, split="val")
        >>> metrics.count
        27
    """
    bundle = Bundle.load(bundle_dir)
    store, split, training = _open_split(bundle, root, split, output_dir, progress)
    job = _Job(bundle, store, split, training, output_dir, device, progress)
    # first, so that its memory is free for the outputs
    leaks = count_leaks(store, training, split)
    chips = job.load(store, split)
    announce(progress, f"weights of {bundle.recipe.backbone.name}")
    outputs = classify_chips(bundle, store.root, store.split(split), device, progress)
    estimate = None
    probabilities = np.exp(log_softmax(outputs.logits))
    if bundle.calibrator:
        estimate = estimate_by_scene(bundle.calibrator, outputs, _scenes(chips))
        probabilities = estimate.probabilities
    title = bundle.recipe.peft.title
    methods = {f"Meta{title}" if bundle.recipe.meta else title: probabilities}
    notes: list[str] = []
    if baselines:
        vit = cast(
            VisionTransformer, load_unmerged_classifier(bundle, device).adapted.detach()
        )
        frozen = _frozen_features(job, vit, chips)
        train_count = int(training.class_counts("train").sum())
        if train_count:
            others, notes = _all_baselines(job, vit, chips, frozen, train_count)
            methods |= others
    announce(progress, "measures and intervals")
    result = _measure(job, root, chips, outputs, methods, leaks, notes)
    write_json(output_dir / EVALUATION_FILE, result.to_dict())
    write_predictions(output_dir, chips.table, bundle.classes, probabilities, estimate)
    if baselines:
        announce(progress, "map of the features")
        indices = _evenly_spaced(len(chips), MAX_MAP_CHIPS)
        table = (
            chips.table[["name", "path", "class"]].iloc[indices].reset_index(drop=True)
        )
        table[["frozen_x", "frozen_y"]] = tsne(frozen[indices])
        table[["adapted_x", "adapted_y"]] = tsne(outputs.features[indices])
        write_parquet(output_dir / EMBEDDING_FILE, table)
    return result


@dataclass(frozen=True)
class _Job:
    """What is evaluated.

    Attributes:
        bundle: the bundle.
        store: the store with the evaluated chips.
        split: the evaluated split.
        training: the store with the chips of the training, often the same.
        output_dir: folder for the files, also for those of features.
        device: "auto", "cpu" or "cuda".
        progress: called while chips are read and classified.
    """

    bundle: Bundle
    store: ChipStore
    split: str
    training: ChipStore
    output_dir: Path
    device: str
    progress: Progress | None

    def load(self, store: ChipStore, split: str) -> ChipImages:
        """Load the chips of a split."""
        bundle = self.bundle
        # other columns need twice the memory
        table = store.read(
            ("name", "path", "class", "group_key", "unit", "sha256"), split
        ).reset_index(drop=True)
        return ChipImages(
            store.root, table, bundle.classes, bundle.contract, self.progress
        )


def _evenly_spaced(count: int, most: int) -> Indices:
    return np.linspace(0, count - 1, min(most, count)).astype(int)


def _scenes(chips: ChipImages) -> NDArray[np.str_]:
    """Return the group of each chip, such as its scene; "" without a group."""
    return chips.table["group_key"].fillna("").to_numpy(str)


def _open_split(
    bundle: Bundle,
    root: Path,
    split: str | None,
    output_dir: Path,
    progress: Progress | None,
) -> tuple[ChipStore, str, ChipStore]:
    """Open a chip store, and select the split to evaluate, see `evaluate`.

    Returns:
        The store, the split, and the store with the chips of the training: the same,
            unless all chips are evaluated.
    """
    data = bundle.recipe.data
    if split == ALL_CHIPS:
        held_out = _open_held_out(root, output_dir, progress)
        _check_classes(held_out, bundle, root)
        # the chips of the training are elsewhere, or no longer those of the bundle
        with suppress(RsftError):
            training = open_store(Path(data.root), data.fold)
            _check_classes(training, bundle, root)
            return held_out, "test", training
        return held_out, "test", held_out
    is_training_data = root.resolve() == Path(data.root).resolve()
    fold = data.fold if split is None and is_training_data else None
    store = open_store(root, fold)
    _check_classes(store, bundle, root)
    split = "val" if fold else split or bundle.recipe.evaluate.split
    if split == "auto":
        split = "val" if store.split("test").empty else "test"
    if store.split(split).empty:
        raise RequestError(
            f"the split {split} has no chips",
            store.root,
            "choose another split with --split, or evaluate the chips of all splits"
            " with --split all",
        )
    return store, split, store


def _check_classes(store: ChipStore, bundle: Bundle, root: Path) -> None:
    if set(store.classes) <= set(bundle.classes):
        return
    raise RequestError(
        f"the data has the classes {', '.join(store.classes)}; the bundle has"
        f" {', '.join(bundle.classes)}",
        root,
        "evaluate on data that was prepared with the same classes",
    )


def _open_held_out(
    root: Path, output_dir: Path, progress: Progress | None
) -> HeldOutStore:
    """Open a chip store or class folders in which every chip is a test chip."""
    if (root / MANIFEST).is_file():
        return HeldOutStore.open(root)
    from rsft.data.prepare.image_folder import prepare_folder

    store = prepare_folder(
        root, output_dir / CHIPS_DIR, val=0, overwrite=True, progress=progress
    )
    return HeldOutStore.open(store.root)


@torch.inference_mode()
def _frozen_features(
    job: _Job, vit: VisionTransformer, chips: ChipImages
) -> StoredRows:
    """Compute pooled features (N, D) of the backbone without PEFT modules."""
    recipe = job.bundle.recipe
    device = next(vit.parameters()).device

    def compute(inputs: Inputs) -> list[Tensor]:
        x = copy_to_device(inputs, device)
        return [extract_features(vit, x, recipe.backbone.pool).float().cpu()]

    parts = compute_batches(
        compute,
        chips.batches(recipe.evaluate.batch_size),
        job.progress,
        "frozen features",
    )
    return StoredRows(job.output_dir, (part.numpy() for (part,) in parts))


def _all_baselines(
    job: _Job,
    vit: VisionTransformer,
    chips: ChipImages,
    frozen: StoredRows,
    train_count: int,
) -> tuple[dict[str, _Probabilities], list[str]]:
    """Return the probabilities of the baselines, and what one should know of them.

    `frozen` are the frozen features of `chips`.
    """
    notes = []
    others = _baselines(job, vit, chips, frozen)
    if train_count > MAX_PROBE_CHIPS:
        notes.append(
            f"the {schema.LINEAR_PROBE} was fitted on {MAX_PROBE_CHIPS:,} of"
            f" {train_count:,} training chips: all of the small classes, and equal"
            " numbers of the others"
        )
    network = {}
    try:
        network = _small_network(job, chips)
    except RsftError as error:  # its training must not fail an evaluation
        reason = ": ".join(filter(None, (error.message, error.location)))
        notes.append(f"the {schema.SMALL_NETWORK} was not trained: {reason}")
    return network | others, notes


def _baselines(
    job: _Job,
    vit: VisionTransformer,
    chips: ChipImages,
    frozen: StoredRows,
) -> dict[str, _Probabilities]:
    """Compute the probabilities of all baselines but the small network.

    `frozen` are the frozen features of `chips`.
    """
    train = job.load(job.training, "train")
    del train.table  # 240 bytes per chip, and its images are in the cache
    return_freed_memory()
    announce(job.progress, "baselines")
    k = job.bundle.recipe.evaluate.knn
    n_classes = len(job.bundle.classes)
    train_x = _frozen_features(job, vit, train)
    discriminant = discriminant_predict(train_x, train.labels, frozen, n_classes)
    chosen = choose_probe_chips(train.labels)
    probe = linear_probe_predict(
        train_x[chosen], train.labels[chosen], frozen, n_classes
    )
    votes = knn_predict(train_x, train.labels, frozen, n_classes, k)
    train_pixels = _small_pixels(job, train)
    pixels = _small_pixels(job, chips)
    return {
        schema.LINEAR_PROBE: probe,
        schema.DISCRIMINANT: discriminant,
        schema.BALANCED_KNN: balance_votes(votes, train.labels),
        schema.PLAIN_KNN: votes,
        schema.PIXEL_KNN: knn_predict(
            train_pixels, train.labels, pixels, n_classes, k, "euclidean"
        ),
    }


def _small_pixels(job: _Job, chips: ChipImages) -> StoredRows:
    """Return the flat small images of chips."""
    images = map(chips.image, range(len(chips)))
    return StoredRows(job.output_dir, map(flatten_small_image, images))


def _small_network(job: _Job, chips: ChipImages) -> dict[str, _Probabilities]:
    """Compute the probabilities of the small network without pre-training.

    There is none if the recipe gives it no time or describes such a network itself, or
    if all chips of a store are evaluated.
    """
    recipe = job.bundle.recipe
    cpu_seconds = recipe.evaluate.baselines
    if (
        not cpu_seconds
        or starts_at_random(recipe.backbone)
        or isinstance(job.store, HeldOutStore)
    ):
        return {}
    recipe = recipe.with_keys("train", device=job.device)
    small = small_network_recipe(recipe, job.store)
    predictions = predict_with_small_network(
        small, job.split, cpu_seconds, chips.cache_file.parent, job.progress
    )
    classes = job.bundle.classes
    probabilities = np.zeros((len(chips), len(classes)))
    columns = [classes.index(name) for name in job.store.classes]
    probabilities[:, columns] = predictions
    return {schema.SMALL_NETWORK: probabilities}


def _measure(
    job: _Job,
    root: Path,
    chips: ChipImages,
    outputs: ClassifierOutputs,
    methods: Mapping[str, _Probabilities],
    leaks: schema.Leaks,
    notes: Sequence[str],
) -> schema.Evaluation:
    """Compute all numbers of metrics.json from the probabilities of each method."""
    bundle = job.bundle
    classes = bundle.classes
    groups = bundle.group_indices
    labels = chips.labels
    run, *baselines = methods
    predicted = methods[run].argmax(1)
    summaries = {}
    for name, probabilities in methods.items():
        summaries[name] = summarize_accuracy(
            probabilities, labels, len(classes), groups
        )
    differences = {}
    for name in baselines:
        other = methods[name].argmax(1)
        differences[name] = compare_predictions(
            predicted, other, labels, groups
        ).differences
    calibration = None
    if bundle.calibrator:
        calibration = measure_calibration(
            bundle.calibrator, outputs, labels, groups, _scenes(chips)
        )
    small_network = None
    if schema.SMALL_NETWORK in methods:
        small_network = schema.SmallNetwork(
            epochs=small_network_recipe(bundle.recipe, job.store).train.epochs,
            macro_difference=differences[schema.SMALL_NETWORK]["macro"],
        )
    return schema.Evaluation(
        data=str(root),
        split=job.split,
        classes=classes,
        groups=groups,
        methods=summaries,
        confusion=confusion_matrix(labels, predicted, len(classes)).tolist(),
        train_counts=bundle.train_counts,
        count=len(chips),
        confidence=calibration,
        notes=[*_notes(job, leaks, labels, calibration), *notes],
        leaks=leaks,
        small_network=small_network,
        differences=differences,
    )


def _notes(
    job: _Job,
    leaks: schema.Leaks,
    labels: Indices,
    calibration: schema.CalibrationReport | None,
) -> list[str]:
    """Return remarks on the chips and the bundle for the reader of metrics.json."""
    bundle = job.bundle
    split = job.split
    notes = []
    if leaks.chips:
        notes.append(
            f"* {leaks.chips:,} of {len(labels):,} {split} chips leak from"
            f" {' and '.join(SEEN_SPLITS[split])} (the same file, group or vessel): the"
            " accuracy is too high"
        )
    if isinstance(job.store, HeldOutStore):
        location = "are not here"
        if job.training is not job.store:
            location = f"are in {job.training.root}"
        notes.append(
            "every chip is a test chip; the chips of the training, for baselines and"
            f" leaks, {location}"
        )
    counts = np.bincount(labels, minlength=len(bundle.classes))
    absent = [bundle.classes[index] for index in np.flatnonzero(counts == 0)]
    if absent:
        notes.append(
            f"no chips in {split}, so left out of all means over classes:"
            f" {list_first_names(absent)}"
        )
    notes.append(describe_groups(bundle.groups, bundle.counts_by_class))
    if bundle.recipe.evaluate.tta != "none":
        notes.append(
            "probabilities are means over test-time views"
            f" ({bundle.recipe.evaluate.tta}), as in rsft predict"
        )
    if not bundle.calibrator or not calibration:
        notes.append(
            "the bundle has no calibration: probabilities are not calibrated and class"
            " sets are missing"
        )
        return notes
    if calibration.fitted_on_these_chips:
        notes.append(
            f"the calibration was fitted on these chips of {split}, so the measured"
            " coverage is too good"
        )
    return [
        *notes,
        bundle.calibrator.promise(),
        *bundle.calibrator.notes(bundle.classes),
    ]
