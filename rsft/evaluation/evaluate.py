"""The job of `rsft evaluate`: a bundle on a split of a prepared root, beside two cheap baselines."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from rsft.data.chips.store import ChipStore
from rsft.data.loading.datamodule import ChipImages, FixedLoader
from rsft.errors import RequestError
from rsft.evaluation.baselines import knn_predict, pixels_16
from rsft.evaluation.calibration_report import examine
from rsft.evaluation.embedding import distances, embedding
from rsft.evaluation.files import write_contributions, write_embedding, write_metrics, write_predictions
from rsft.evaluation.site_contributions import contributions
from rsft.metrics.accuracy import Summary, confusion_matrix, summarise
from rsft.models.averaging import with_views
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import pooled_features
from rsft.models.factory import load_adapted, load_classifier
from rsft.models.outputs import Outputs, outputs_of
from rsft.models.uncertainty.temperature_scaling import log_softmax
from rsft.types import Progress

CONTRIBUTIONS = 256
"""Validation chips on which the sites' contributions are measured; their means no longer move with more."""


@dataclass(frozen=True)
class Evaluation:
    """What metrics.json holds.

    Attributes:
        data, split: what was evaluated.
        classes: by index.
        groups: class indices of head, medium and tail.
        methods: the bundle first, with its calibrated probabilities, then the baselines.
        confusion: (C, C) of the bundle, rows are the truth.
        train_counts: training chips of each class.
        count: chips evaluated.
        confidence: what `rsft.evaluation.calibration_report.examine` found; None for a bundle without.
        distances: inter-class cosine distance of the frozen and of the adapted features, by group.
        notes: what the reader must know, in sentences.
    """

    data: str
    split: str
    classes: tuple[str, ...]
    groups: dict[str, list[int]]
    methods: dict[str, Summary]
    confusion: list[list[int]]
    train_counts: tuple[int, ...]
    count: int
    confidence: dict[str, Any] | None = None
    distances: dict[str, dict[str, float | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        methods = {name: summary.to_dict(self.classes) for name, summary in self.methods.items()}
        return {**vars(self), "methods": methods}


def evaluate(
    bundle_folder: Path,
    root: Path,
    out: Path,
    *,
    split: str | None = None,
    baselines: bool = True,
    representation: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Classify a split, sum up, and write into `out`: metrics.json, predictions.parquet, and of the representation
    embedding.parquet and, where the method adds something at sites, contributions.csv.

    Args:
        bundle_folder: of a run.
        root: a prepared root with the bundle's classes.
        split: None takes the recipe's, which is test where there is one and val elsewhere.
        baselines: k-nearest neighbours on frozen features and on pixels, learned on the root's training split.
        representation: distances and a map of the features, frozen and adapted, and what each site contributes.

    Raises:
        RequestError: classes that differ, or a split without chips.
    """
    bundle, store = Bundle.load(bundle_folder), ChipStore.open(root)
    if store.classes != bundle.classes:
        raise RequestError(
            f"the data has classes {', '.join(store.classes)}; the bundle knows {', '.join(bundle.classes)}",
            root,
            "evaluate on data prepared with the same classes",
        )
    split = _choose_split(store, split or bundle.recipe.evaluate.split)
    chips = _read(store, split, bundle, progress)
    model, contract = with_views(load_classifier(bundle, device), bundle.contract, bundle.recipe.evaluate)
    outputs = outputs_of(
        model,
        _read(store, split, replace(bundle, contract=contract), progress).batches(bundle.recipe.evaluate.batch_size),
        progress and (lambda done: progress(done, len(chips), "classifying")),
    )
    judged = bundle.confidence.apply(*outputs) if bundle.confidence else None
    probabilities = judged.probabilities if judged else np.exp(log_softmax(outputs.logits))
    methods, features = {_method(bundle): probabilities}, {}
    if baselines or representation:
        unmerged = load_adapted(bundle, device)
        shares = contributions(unmerged, _some(store, bundle, chips, progress)) if representation else {}
        vit = cast(VisionTransformer, unmerged.adapted.detach())
        features = {"frozen": frozen_features(vit, chips, bundle, progress), "adapted": outputs.features}
    if baselines and not store.split("train").empty:
        train = _read(store, "train", bundle, progress)
        methods |= _baselines(bundle, vit, train, chips, features["frozen"], progress)

    result = _sum_up(bundle, str(root), split, chips, outputs, methods, features if representation else {})
    write_metrics(out, result.to_dict())
    write_predictions(out, chips.table, bundle.classes, probabilities, judged)
    if representation:
        write_embedding(out, embedding(features, chips))
        write_contributions(out, shares)
    return result


def _sum_up(
    bundle: Bundle,
    data: str,
    split: str,
    chips: ChipImages,
    outputs: Outputs,
    methods: dict[str, NDArray[np.float64]],
    features: dict[str, NDArray[np.float32]],
) -> Evaluation:
    classes, groups, labels = bundle.classes, bundle.group_indices, chips.labels
    found = {name: summarise(p, labels, len(classes), groups) for name, p in methods.items()}
    own = next(iter(methods.values()))
    trust = examine(bundle.confidence, outputs, labels, groups) if bundle.confidence else None
    return Evaluation(
        data=data,
        split=split,
        classes=classes,
        groups=groups,
        methods=found,
        confusion=confusion_matrix(labels, own.argmax(1), len(classes)).tolist(),
        train_counts=bundle.train_counts,
        count=len(chips),
        confidence=trust,
        distances=distances(features, labels, len(classes), groups),
        notes=_notes(bundle, split, found, trust),
    )


def _notes(bundle: Bundle, split: str, methods: dict[str, Summary], trust: dict[str, Any] | None) -> list[str]:
    absent = [bundle.classes[index] for index in next(iter(methods.values())).absent]
    notes = [f"without chips in {split}, so left out of every mean over classes: {', '.join(absent)}"] if absent else []
    if len(bundle.members) > 1:
        notes.append(f"probabilities averaged over {len(bundle.members)} runs; contributions are those of the first")
    if bundle.recipe.evaluate.tta != "none":
        notes.append(f"probabilities averaged over crops ({bundle.recipe.evaluate.tta})")
    if bundle.confidence is None or trust is None:
        return [*notes, "the bundle has no confidence: probabilities are not calibrated, and there are no sets"]
    if trust["fitted_here"]:
        notes.append(f"the confidence was fitted on these very chips of {split}: its coverage looks better than it is")
    return notes + bundle.confidence.notes(bundle.classes)


def _baselines(
    bundle: Bundle,
    vit: VisionTransformer,
    train: ChipImages,
    chips: ChipImages,
    frozen: NDArray[np.float32],
    progress: Progress | None,
) -> dict[str, NDArray[np.float64]]:
    known = frozen_features(vit, train, bundle, progress)
    pixels = [pixels_16(part.images) for part in (train, chips)]
    k, classes = bundle.recipe.evaluate.knn, len(bundle.classes)
    return {
        "k-NN, frozen features": knn_predict(known, train.labels, frozen, classes, k, "cosine"),
        "k-NN, 16 x 16 pixels": knn_predict(pixels[0], train.labels, pixels[1], classes, k, "euclidean"),
    }


@torch.inference_mode()
def frozen_features(
    vit: VisionTransformer, chips: ChipImages, bundle: Bundle, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Pooled features of the frozen backbone (N, D)."""
    recipe, device = bundle.recipe, next(vit.parameters()).device
    parts: list[Tensor] = []
    for done, (inputs, _) in enumerate(chips.batches(recipe.evaluate.batch_size), start=1):
        parts.append(pooled_features(vit, inputs.to(device), recipe.backbone.pool).cpu())
        if progress is not None:
            progress(min(done * recipe.evaluate.batch_size, len(chips)), len(chips), "frozen features")
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def _read(store: ChipStore, split: str, bundle: Bundle, progress: Progress | None) -> ChipImages:
    return ChipImages(store.root, store.split(split), store.classes, bundle.contract, progress)


def _some(store: ChipStore, bundle: Bundle, chips: ChipImages, progress: Progress | None) -> FixedLoader:
    """Some validation chips, or evaluated ones where there are none, evenly over the table."""
    if not store.split("val").empty:
        chips = _read(store, "val", bundle, progress)
    chosen = np.linspace(0, len(chips) - 1, min(CONTRIBUTIONS, len(chips))).astype(int)
    return FixedLoader(chips, chosen, min(bundle.recipe.evaluate.batch_size, CONTRIBUTIONS))


def _choose_split(store: ChipStore, split: str) -> str:
    if split == "auto":
        split = "test" if not store.split("test").empty else "val"
    if store.split(split).empty:
        raise RequestError(f"the split {split} has no chips", store.root, "name another one with --split")
    return split


def _method(bundle: Bundle) -> str:
    name = bundle.recipe.peft.title
    return f"Meta{name}" if bundle.recipe.meta is not None else name
