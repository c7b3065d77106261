"""The methods of a study: fine-tuning by a recipe, the automatic choice, and the obvious alternatives to both.

All of them predict the held-out chips of the data set of a recipe, those of the
validation and of the test split, after training on its training chips.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from rsft.data.chips.store import ChipStore
from rsft.data.imagery.augmentation import Augmentation
from rsft.data.loading.batches import AugmentedChips, ChipImages, ChipLoader
from rsft.evaluation.baselines import balance_votes, knn_predict, linear_probe_predict
from rsft.models.averaging import with_tta
from rsft.models.batch_outputs import collect_outputs
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import extract_features
from rsft.models.devices import copy_to_device
from rsft.models.loading import load_classifier
from rsft.recipe.library import AUTO, find_recipe
from rsft.recipe.schema import Recipe
from rsft.recipe.text import to_yaml
from rsft.study.choice import AutoSearch, SearchListener
from rsft.study.choice_file import read_auto
from rsft.training.finetune import finetune
from rsft.training.fit import VALIDATION_MEASURES
from rsft.training.runs.reader import hash_manifest
from rsft.training.setup import TrainingSetup, seed_generators, set_up
from rsft.types import Indices
from rsft.utils.atomic_files import write_text


@dataclass
class Predicted:
    """Predicted classes of the held-out chips.

    Attributes:
        labels: class indices of the chips (N,).
        predicted: their predicted class indices (N,).
        is_reported: whether tables report a chip (N,), from `is_reported`; settings may
            be chosen on the others.
        groups: class indices by group.
        split_sha256: hash of the manifest, which names the chips of all splits and the
            hashes of their files.
        scales: the scales that were learned, by column; None without a modulator.
        note: what else a reader should know, such as the chosen candidate.
        seconds: CPU time of this process at the end of training.
        trained_parameters: number of trained parameters, with those of the head; None
            if the method trains no network.
    """

    labels: Indices
    predicted: Indices
    is_reported: NDArray[np.bool_]
    groups: Mapping[str, list[int]]
    split_sha256: str
    scales: dict[str, Any] | None = None
    note: str = ""
    seconds: float = 0.0
    trained_parameters: int | None = None

    def recall(self) -> list[list[float | None]]:
        """Return the recall of every class on the chips for choices, on the reported chips, and on all of them.

        Returns:
            Recall by class index; None for a class without chips in the part.
        """
        frame = pd.DataFrame(
            {"label": self.labels, "is_correct": self.predicted == self.labels}
        )
        classes = range(
            max(index for indices in self.groups.values() for index in indices) + 1
        )
        parts = [frame[~self.is_reported], frame[self.is_reported], frame]
        means = [part.groupby("label")["is_correct"].mean().to_dict() for part in parts]
        return [[by_class.get(index) for index in classes] for by_class in means]


def held_out_chips(store: ChipStore) -> pd.DataFrame:
    """Return the manifest rows of the validation split, then those of the test split."""
    return pd.concat([store.split("val"), store.split("test")])


def is_reported(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return whether tables report a held-out chip: those of the test split, or else every second chip of a class.

    Args:
        table: N manifest rows, from `held_out_chips`.
    """
    is_test = table["split"] == "test"
    is_second = table.groupby("class").cumcount() % 2 == 1
    return (is_test if is_test.any() else is_second).to_numpy()


def write_split(store: ChipStore, file: Path) -> None:
    """Write which chips are in which split, so that others can compare their methods on the same chips.

    The columns are the first 16 digits of the SHA-256 of a chip's file, its split and
    its class.
    """
    table = store.table.assign(sha256=store.table["sha256"].str[:16]).sort_values(
        ["split", "class", "sha256"]
    )
    write_text(
        file,
        table[["sha256", "split", "class"]].to_csv(index=False, lineterminator="\n"),
    )


_NO_MEASURES = dict.fromkeys(
    ("val_loss", *(f"val_{name}" for name in VALIDATION_MEASURES)), math.nan
)


def predict_finetuned(recipe: Recipe, folder: Path) -> Predicted:
    """Fine-tune by the recipe in a run folder, and predict with the views of `evaluate.tta`."""
    # calibration takes time and does not change accuracies
    with patch(
        "rsft.training.finetune.calibrate_bundle", side_effect=lambda bundle, *_: bundle
    ):
        if recipe.train.patience is None:  # nor does validation
            with patch("rsft.training.fit.validate", return_value=_NO_MEASURES):
                run = finetune(recipe, folder)
        else:
            run = finetune(recipe, folder)
    seconds = time.process_time()
    bundle = Bundle.load(run.bundle_dir)
    store = ChipStore.open(Path(recipe.data.root))
    model, contract = with_tta(
        load_classifier(bundle, "cpu"), bundle.contract, bundle.recipe.evaluate
    )
    chips = ChipImages(store.root, held_out_chips(store), store.classes, contract)
    predicted = collect_outputs(model, chips.batches(256)).logits.argmax(1)
    scales: Any = (
        pd.read_csv(run.folder / "modulator.csv").to_dict("list")
        if recipe.meta
        else None
    )
    split = hash_manifest(store.root)
    reported = is_reported(chips.table)
    return Predicted(
        chips.labels,
        predicted,
        reported,
        bundle.group_indices,
        split,
        scales,
        seconds=seconds,
        trained_parameters=run.metadata["trained_parameters"],
    )


def predict_chosen(recipe: Recipe, folder: Path) -> Predicted:
    """Choose among the candidates of recipes/auto.yaml for the data of the recipe, and fine-tune the chosen one.

    The seconds contain those of the search.
    """
    keys = recipe.data.model_dump(mode="json", exclude_unset=True)
    keys.pop("stretch", None)  # of the candidate
    overrides = [
        f"seed={recipe.seed}",
        *(f"data.{key}={to_yaml(value)}" for key, value in keys.items()),
    ]
    plan = read_auto(find_recipe(AUTO), overrides)
    choice = AutoSearch(plan, folder / "search", SearchListener()).run()
    result = predict_finetuned(choice.recipe, folder / "chosen")
    result.note = choice.sentence
    return result


def predict_on_features(
    predict: Callable[..., np.ndarray[Any, Any]],
    recipe: Recipe,
    folder: Path,
    **options: Any,
) -> Predicted:
    """Predict from features of the frozen encoder; nothing is written to the folder."""
    setup = set_up(recipe)
    seed_generators(recipe.seed)

    @torch.inference_mode()
    def features(chips: ChipImages) -> np.ndarray[Any, Any]:
        pooled = [
            extract_features(
                setup.encoder.vit, copy_to_device(x, "cpu"), recipe.backbone.pool
            )
            for x, _ in chips.batches(256)
        ]
        return torch.cat(pooled).numpy()

    known = features(setup.train)
    labels = setup.train.labels
    classes = len(setup.store.classes)
    held_out = _held_out_images(setup)
    return _predicted(
        setup.store,
        predict(known, labels, features(held_out), classes, **options).argmax(1),
    )


def _held_out_images(setup: TrainingSetup) -> ChipImages:
    store = setup.store
    return ChipImages(store.root, held_out_chips(store), store.classes, setup.contract)


def _predicted(store: ChipStore, predicted: Indices) -> Predicted:
    seconds = time.process_time()
    groups = {
        name: [store.classes.index(x) for x in members]
        for name, members in store.groups.items()
    }
    table = held_out_chips(store)
    labels = table["class"].map(store.classes.index).to_numpy(np.int64)
    return Predicted(
        labels,
        predicted,
        is_reported(table),
        groups,
        hash_manifest(store.root),
        seconds=seconds,
    )


SIZE_COLUMNS = ["ais_length_m", "ais_beam_m"]
"""Columns of the manifest of OpenSARShip: the size of a ship by AIS."""


def predict_from_ship_size(recipe: Recipe, folder: Path) -> Predicted:
    """Predict from length and beam of the ship in AIS alone, without an image; nothing is written to the folder.

    It shows how far the size of a ship tells its type. The settings are the defaults of
    scikit-learn, with classes of equal weight. A missing size is the median of the
    training chips.
    """
    store = ChipStore.open(Path(recipe.data.root))
    train = store.split("train")
    classifier = LogisticRegression(class_weight="balanced")
    model = make_pipeline(
        SimpleImputer(strategy="median"), StandardScaler(), classifier
    )
    model.fit(train[SIZE_COLUMNS], train["class"])
    names = model.predict(held_out_chips(store)[SIZE_COLUMNS])
    return _predicted(store, np.array([store.classes.index(name) for name in names]))


def predict_with_hugging_face(recipe: Recipe, folder: Path) -> Predicted:
    """Fine-tune the encoder of the recipe by Hugging Face PEFT as its image classification guide does.

    https://huggingface.co/docs/peft/main/en/task_guides/lora_based_methods: rank and
    alpha 16, dropout 0.1, a linear head, cross entropy, a rate of 5e-3 that falls
    linearly. Layers, epochs, batch size and augmentation are those of the recipe. There
    are no views, no loss for the long tail and no clipping. Nothing is written to the
    folder.
    """
    from peft import LoraConfig, get_peft_model

    seed_generators(recipe.seed)
    setup = set_up(recipe)
    network = _Encoder(
        setup.encoder.vit,
        recipe.backbone.pool,
        setup.encoder.width,
        len(setup.store.classes),
    )
    layers = ["qkv", "attn.proj", "fc1", "fc2"]
    config = LoraConfig(
        r=16,
        lora_alpha=16,
        lora_dropout=0.1,
        target_modules=layers,
        modules_to_save=["head"],
    )
    model: Any = get_peft_model(network, config)
    augmentation = Augmentation(
        recipe.data.augment, len(setup.contract.planes), setup.contract.size
    )
    size = recipe.train.batch_size
    epochs = recipe.train.epochs
    steps = -(-len(setup.train) // size) * epochs
    optimizer = torch.optim.AdamW(
        [x for x in model.parameters() if x.requires_grad], lr=5e-3
    )
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    model.train()
    for epoch in range(epochs):
        order = np.random.default_rng((recipe.seed, epoch)).permutation(
            len(setup.train)
        )
        augmented = AugmentedChips(setup.train, augmentation, recipe.seed, epoch)
        for inputs, labels in ChipLoader(augmented.batch, order, size):
            optimizer.zero_grad()
            logits = model(copy_to_device(inputs, "cpu"))
            torch.autograd.backward(F.cross_entropy(logits, labels))
            optimizer.step()
            schedule.step()
    model.eval()
    seconds = time.process_time()
    with torch.inference_mode():
        batches = _held_out_images(setup).batches(256)
        logits = [model(copy_to_device(inputs, "cpu")) for inputs, _ in batches]
        predicted = torch.cat(logits).argmax(1).numpy()
    result = _predicted(setup.store, predicted)
    result.seconds = seconds
    return result


class _Encoder(nn.Module):
    """A frozen encoder with a new linear head, as `transformers` builds it."""

    vit: VisionTransformer

    def __init__(
        self, vit: VisionTransformer, pool: str, width: int, classes: int
    ) -> None:
        super().__init__()
        self.vit = vit
        self.pool = pool
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(extract_features(self.vit, x, self.pool))
        return logits


METHODS: dict[str, Callable[[Recipe, Path], Predicted]] = {
    "finetune": predict_finetuned,
    "auto": predict_chosen,
    "hugging-face": predict_with_hugging_face,
    "knn": partial(
        predict_on_features,
        lambda *args, **options: balance_votes(knn_predict(*args, **options), args[1]),
    ),
    "linear-probe": partial(predict_on_features, linear_probe_predict),
    "ship-size": predict_from_ship_size,
}
"""What the methods do, by name."""
