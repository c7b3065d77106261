"""Evaluate a bundle on one split of a chip store, and compare it with cheap baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from rsft.data.chips.store import ChipStore
from rsft.data.loading.batches import ChipImages, UnaugmentedLoader
from rsft.errors import RequestError
from rsft.evaluation.baseline_names import BALANCED_KNN, LINEAR_PROBE, PIXEL_KNN, PLAIN_KNN
from rsft.evaluation.baselines import flatten_small_images, knn_predict, linear_probe_predict
from rsft.evaluation.calibration_report import estimate_by_scene, measure_calibration
from rsft.evaluation.embedding import distances_by_stage, tsne_table
from rsft.evaluation.files import write_contributions, write_embedding, write_evaluation, write_predictions
from rsft.evaluation.schema import CalibrationReport, Evaluation
from rsft.evaluation.site_contributions import measure_contributions
from rsft.metrics.accuracy import AccuracySummary, confusion_matrix, summarize_accuracy
from rsft.models.averaging import tta_warning, with_tta
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import extract_features
from rsft.models.device import copy_to_device
from rsft.models.factory import choose_device, load_classifier, load_unmerged_classifier
from rsft.models.outputs import ClassifierOutputs
from rsft.models.stored_outputs import load_or_collect_outputs
from rsft.models.uncertainty.temperature_scaling import log_softmax
from rsft.types import Progress

CONTRIBUTION_CHIPS = 256
"""Number of validation chips for the contributions of the sites. More chips hardly change the means."""


def evaluate(
    bundle_dir: Path,
    root: Path,
    output_dir: Path,
    *,
    split: str | None = None,
    baselines: bool = True,
    representation: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Classify the chips of a split, and write the results to a folder.

    The files are metrics.json and predictions.parquet; with `representation` also embedding.parquet and, if the PEFT
    method has modules at sites, contributions.csv.

    Args:
        bundle_dir: folder of the bundle of a run.
        root: a chip store with the bundle's classes.
        output_dir: folder for the files.
        split: a split of the store. None takes the split of the recipe; its default is test, or val without test chips.
        baselines: also evaluate a linear probe and k-nearest neighbors on frozen features, and k-nearest neighbors on
            pixels of the training split.
        representation: also measure distances between classes and the contribution of each site, and map the features
            before and after fine-tuning.
        device: "auto", "cpu" or "cuda".
        progress: called while chips are read and classified.

    Returns:
        The content of metrics.json.

    Raises:
        RequestError: the classes differ, or the split has no chips.

    Example:
        >>> import rsft
        >>> metrics = rsft.evaluate(Path("runs/ships"), Path("data/ships"), Path("evaluation"), split="val")
        >>> metrics.count
        27
    """
    bundle, store = Bundle.load(bundle_dir), ChipStore.open(root)
    if not set(store.classes) <= set(bundle.classes):
        raise RequestError(
            f"the data has the classes {', '.join(store.classes)}; the bundle has {', '.join(bundle.classes)}",
            root,
            "evaluate on data that was prepared with the same classes",
        )
    split = _choose_split(store, split or bundle.recipe.evaluate.split)
    chips = _load_chips(store, split, bundle, progress)
    outputs = _classify(bundle, store, split, device, progress)
    estimate = estimate_by_scene(bundle.calibrator, outputs, _scenes(chips)) if bundle.calibrator else None
    probabilities = estimate.probabilities if estimate else np.exp(log_softmax(outputs.logits))
    methods, features = {_method_name(bundle): probabilities}, {}
    if baselines or representation:
        unmerged = load_unmerged_classifier(bundle, device)
        sample = _contribution_loader(store, bundle, chips, progress)
        contributions = measure_contributions(unmerged, sample) if representation else {}
        vit = cast(VisionTransformer, unmerged.adapted.detach())
        features = {"frozen": compute_frozen_features(vit, chips, bundle, progress), "adapted": outputs.features}
    if baselines and not store.split("train").empty:
        train = _load_chips(store, "train", bundle, progress)
        methods |= _baselines(bundle, vit, train, chips, features["frozen"], progress)

    result = _measure(bundle, str(root), split, chips, outputs, methods, features if representation else {})
    write_evaluation(output_dir, result)
    write_predictions(output_dir, chips.table, bundle.classes, probabilities, estimate)
    if representation:
        write_embedding(output_dir, tsne_table(features, chips))
        write_contributions(output_dir, contributions)
    return result


def _classify(
    bundle: Bundle, store: ChipStore, split: str, device: str, progress: Progress | None
) -> ClassifierOutputs:
    """Compute logits and features of a split, averaged over the test-time views of the recipe."""
    model, contract = with_tta(load_classifier(bundle, device), bundle.contract, bundle.recipe.evaluate)
    chips = _load_chips(store, split, replace(bundle, contract=contract), progress)
    return load_or_collect_outputs(
        bundle,
        model,
        chips.batches(bundle.recipe.evaluate.batch_size),
        chips.cache_file,
        contract,
        choose_device(device).type,
        progress and (lambda done: progress(done, len(chips), "classifying")),
    )


def _measure(
    bundle: Bundle,
    data: str,
    split: str,
    chips: ChipImages,
    outputs: ClassifierOutputs,
    methods: Mapping[str, NDArray[np.float64]],
    features: Mapping[str, NDArray[np.float32]],
) -> Evaluation:
    """Compute all numbers of metrics.json from the probabilities of each method."""
    classes, groups, labels = bundle.classes, bundle.group_indices, chips.labels
    summaries = {name: summarize_accuracy(p, labels, len(classes), groups) for name, p in methods.items()}
    predicted = next(iter(methods.values())).argmax(1)
    calibrator, scenes = bundle.calibrator, _scenes(chips)
    calibration = measure_calibration(calibrator, outputs, labels, groups, scenes) if calibrator else None
    return Evaluation(
        data=data,
        split=split,
        classes=classes,
        groups=groups,
        methods=summaries,
        confusion=confusion_matrix(labels, predicted, len(classes)).tolist(),
        train_counts=bundle.train_counts,
        count=len(chips),
        confidence=calibration,
        distances=distances_by_stage(features, labels, len(classes), groups),
        notes=_notes(bundle, split, summaries, calibration),
    )


def _notes(
    bundle: Bundle, split: str, methods: Mapping[str, AccuracySummary], calibration: CalibrationReport | None
) -> list[str]:
    absent = [bundle.classes[index] for index in next(iter(methods.values())).absent]
    notes = [f"no chips in {split}, so left out of all means over classes: {', '.join(absent)}"] if absent else []
    if len(bundle.members) > 1:
        notes.append(f"probabilities are means over {len(bundle.members)} runs; contributions are of the first run")
    if bundle.recipe.evaluate.tta != "none":
        notes.append(f"probabilities are means over test-time views ({bundle.recipe.evaluate.tta}), as in rsft predict")
    if warning := tta_warning(bundle.recipe, bundle.contract.units):
        notes.append(warning)
    if bundle.calibrator is None or calibration is None:
        return [*notes, "the bundle has no calibration: probabilities are not calibrated and class sets are missing"]
    if calibration.fitted_on_these_chips:
        notes.append(f"the calibration was fitted on these chips of {split}, so the measured coverage is too good")
    return [*notes, bundle.calibrator.promise(), *bundle.calibrator.notes(bundle.classes)]


def _scenes(chips: ChipImages) -> NDArray[np.str_]:
    """Return the group of each chip, such as its scene; "" for a chip without a group."""
    return chips.table["group_key"].fillna("").to_numpy(str)


def _baselines(
    bundle: Bundle,
    vit: VisionTransformer,
    train: ChipImages,
    chips: ChipImages,
    features: NDArray[np.float32],
    progress: Progress | None,
) -> dict[str, NDArray[np.float64]]:
    """Compute the probabilities of all baselines; `features` are the frozen features of `chips`."""
    train_features = compute_frozen_features(vit, train, bundle, progress)
    train_pixels, pixels = (flatten_small_images(images.images) for images in (train, chips))
    k, n_classes = bundle.recipe.evaluate.knn, len(bundle.classes)
    knn = partial(knn_predict, train_features, train.labels, features, n_classes, k)
    return {
        LINEAR_PROBE: linear_probe_predict(train_features, train.labels, features, n_classes),
        BALANCED_KNN: knn(balanced=True),
        PLAIN_KNN: knn(),
        PIXEL_KNN: knn_predict(train_pixels, train.labels, pixels, n_classes, k, "euclidean"),
    }


@torch.inference_mode()
def compute_frozen_features(
    vit: VisionTransformer, chips: ChipImages, bundle: Bundle, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Compute pooled features of the frozen backbone.

    Args:
        vit: the backbone without PEFT modules.
        chips: the N chips.
        bundle: its recipe selects the pooling and the batch size.
        progress: called after every batch.

    Returns:
        Features (N, D), float32.
    """
    recipe, device = bundle.recipe, next(vit.parameters()).device
    batches: list[Tensor] = []
    for done, (inputs, _) in enumerate(chips.batches(recipe.evaluate.batch_size), start=1):
        batches.append(extract_features(vit, copy_to_device(inputs, device), recipe.backbone.pool).cpu())
        if progress is not None:
            progress(min(done * recipe.evaluate.batch_size, len(chips)), len(chips), "frozen features")
    return np.asarray(torch.cat(batches).numpy(), np.float32)


def _load_chips(store: ChipStore, split: str, bundle: Bundle, progress: Progress | None) -> ChipImages:
    return ChipImages(store.root, store.split(split), bundle.classes, bundle.contract, progress)


def _contribution_loader(
    store: ChipStore, bundle: Bundle, chips: ChipImages, progress: Progress | None
) -> UnaugmentedLoader:
    """Return up to `CONTRIBUTION_CHIPS` validation chips; evaluated chips if the store has no validation chips."""
    if not store.split("val").empty:
        chips = _load_chips(store, "val", bundle, progress)
    indices = np.linspace(0, len(chips) - 1, min(CONTRIBUTION_CHIPS, len(chips))).astype(int)
    return UnaugmentedLoader(chips, indices, min(bundle.recipe.evaluate.batch_size, CONTRIBUTION_CHIPS))


def _choose_split(store: ChipStore, split: str) -> str:
    if split == "auto":
        split = "test" if not store.split("test").empty else "val"
    if store.split(split).empty:
        raise RequestError(f"the split {split} has no chips", store.root, "choose another split with --split")
    return split


def _method_name(bundle: Bundle) -> str:
    title = bundle.recipe.peft.title
    return f"Meta{title}" if bundle.recipe.meta is not None else title
