"""The job of `rsft evaluate`: a bundle on a split of a prepared root, beside two cheap baselines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from rsft.bundle import Bundle
from rsft.chips.dataset import ChipImages
from rsft.chips.store import ChipStore, Progress
from rsft.classifier import load_classifier, load_encoder, pooled_features
from rsft.errors import RequestError
from rsft.evaluate.baselines import knn_predict, pixels_16
from rsft.files import replacing, write_text
from rsft.metrics.accuracy import Summary, summarise

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Evaluation:
    """What metrics.json holds.

    Attributes:
        data, split: what was evaluated.
        classes: by index.
        groups: class indices of head, medium and tail.
        methods: the bundle first, then the baselines.
        confusion: (C, C) of the bundle, rows are the truth.
        train_counts: training chips of each class.
        count: chips evaluated.
    """

    data: str
    split: str
    classes: tuple[str, ...]
    groups: dict[str, list[int]]
    methods: dict[str, Summary]
    confusion: list[list[int]]
    train_counts: tuple[int, ...]
    count: int

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
    device: str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Classify a split, sum up, and write metrics.json and predictions.parquet into `out`.

    Args:
        bundle_folder: of a run.
        root: a prepared root with the bundle's classes.
        split: None takes the recipe's, which is test where there is one and val elsewhere.
        baselines: k-nearest neighbours on frozen features and on pixels, learned on the root's training split.

    Raises:
        RequestError: classes that differ, or a split without chips.
    """
    bundle = Bundle.load(bundle_folder)
    store = ChipStore.open(root)
    if store.classes != bundle.classes:
        raise RequestError(
            f"the data has classes {', '.join(store.classes)}; the bundle knows {', '.join(bundle.classes)}",
            root,
            "evaluate on data prepared with the same classes",
        )
    split = _choose_split(store, split or bundle.recipe.evaluate.split)
    chips = ChipImages(root, store.split(split), store.classes, bundle.contract, progress)
    size = bundle.recipe.evaluate.batch_size
    probabilities = classify(load_classifier(bundle, device), chips, size, progress)

    outputs: dict[str, Probabilities | NDArray[np.float64]] = {_method(bundle): probabilities}
    if baselines and not store.split("train").empty:
        train = ChipImages(root, store.split("train"), store.classes, bundle.contract, progress)
        outputs |= _baselines(bundle, train, chips, progress)
    groups = bundle.group_indices
    methods = {name: summarise(p, chips.labels, len(store.classes), groups) for name, p in outputs.items()}
    matrix = confusion_matrix(chips.labels, probabilities.argmax(1), labels=np.arange(len(store.classes)))
    counts = bundle.train_counts
    result = Evaluation(str(root), split, store.classes, groups, methods, matrix.tolist(), counts, len(chips))
    _write(out, result, chips, probabilities)
    return result


@torch.inference_mode()
def classify(model: nn.Module, chips: ChipImages, size: int, progress: Progress | None = None) -> Probabilities:
    """Class probabilities of all chips (N, C)."""
    device = next(model.parameters()).device
    parts: list[Tensor] = []
    for done, (inputs, _) in enumerate(chips.batches(size), start=1):
        parts.append(model(inputs.to(device)).float().softmax(dim=1).cpu())
        if progress is not None:
            progress(min(done * size, len(chips)), len(chips), "classifying")
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def _baselines(
    bundle: Bundle, train: ChipImages, chips: ChipImages, progress: Progress | None
) -> dict[str, NDArray[np.float64]]:
    recipe, classes = bundle.recipe, len(bundle.classes)
    vit = load_encoder(recipe, bundle.contract.bands).vit
    frozen = [
        frozen_features(vit, part, recipe.backbone.pool, recipe.evaluate.batch_size, progress)
        for part in (train, chips)
    ]
    pixels = [pixels_16(part.images) for part in (train, chips)]
    k = recipe.evaluate.knn
    return {
        "k-NN, frozen features": knn_predict(frozen[0], train.labels, frozen[1], classes, k, "cosine"),
        "k-NN, 16 x 16 pixels": knn_predict(pixels[0], train.labels, pixels[1], classes, k, "euclidean"),
    }


@torch.inference_mode()
def frozen_features(
    vit: VisionTransformer, chips: ChipImages, pool: str, size: int, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Pooled features of the frozen backbone (N, D)."""
    parts: list[Tensor] = []
    for done, (inputs, _) in enumerate(chips.batches(size), start=1):
        parts.append(pooled_features(vit, inputs, pool))
        if progress is not None:
            progress(min(done * size, len(chips)), len(chips), "frozen features")
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def _choose_split(store: ChipStore, split: str) -> str:
    if split == "auto":
        split = "test" if not store.split("test").empty else "val"
    if store.split(split).empty:
        raise RequestError(f"the split {split} has no chips", store.root, "name another one with --split")
    return split


def _method(bundle: Bundle) -> str:
    name = bundle.recipe.peft.title
    return f"Meta{name}" if bundle.recipe.meta is not None else name


def _write(out: Path, result: Evaluation, chips: ChipImages, probabilities: Probabilities) -> None:
    write_text(out / "metrics.json", json.dumps(result.to_dict(), indent=1))
    names = np.array(result.classes)
    table = pd.DataFrame({key: chips.table[key].to_numpy() for key in ("name", "path", "class")})
    table["predicted"] = names[probabilities.argmax(1)]
    table[[f"p_{name}" for name in names]] = probabilities
    with replacing(out / "predictions.parquet") as temporary:
        table.to_parquet(temporary, index=False)
