"""Averages of predicted probabilities, over independent runs or over test-time views of a chip; and stored outputs.

Calibration, evaluation and the replay check of a run need the outputs of the same bundle on the same chips, so these
are kept beside the cache of images of a chip store.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.models.bundle.bundle import Bundle
from rsft.models.classifier import Classifier, Prediction, SupportsPredict
from rsft.models.outputs import VIEWS, ClassifierOutputs, TakeViews, average_outputs, collect_outputs, tta_contract
from rsft.recipe.schema import EvaluateSection, Recipe
from rsft.utils.atomic_files import atomic_file
from rsft.version import __version__

M = TypeVar("M", bound=SupportsPredict)
"""Type of a model."""


def average_predictions(predictions: Iterable[Prediction]) -> Prediction:
    """Return the mean of several predictions of the same B images.

    Returns:
        The logarithm of the mean probabilities (B, C) as logits, and the mean features (B, D).
    """
    logits, features = zip(*predictions, strict=True)
    return Prediction(*average_outputs([member.float() for member in logits], features))


class PredictionAverage(nn.Module, ABC):
    """A model that predicts the mean of several predictions (`average_predictions`)."""

    @abstractmethod
    def member_predictions(self, x: Tensor) -> Iterable[Prediction]:
        """Return the predictions to average, of images (B, P, S, S)."""

    def predict(self, x: Tensor) -> Prediction:
        """Return mean logits (B, C) and features (B, D) of images (B, P, S, S)."""
        return average_predictions(self.member_predictions(x))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean logits (B, C) of images (B, P, S, S)."""
        return self.predict(x).logits


class Ensemble(PredictionAverage):
    """Ensemble of independent runs on one frozen backbone. Each prediction loads the state of every run in turn.

    Args:
        classifier: the classifier of the runs' common recipe, with its PEFT modules attached.
        states: the learned state of each run, from `Classifier.learned_state`.
    """

    def __init__(self, classifier: Classifier, states: Sequence[Mapping[str, Tensor]]) -> None:
        super().__init__()
        self.classifier = classifier
        expected = classifier.learned_state()
        self.states = [
            {key: state.get(key, torch.zeros_like(value)) for key, value in expected.items()} for state in states
        ]

    def member_predictions(self, x: Tensor) -> Iterable[Prediction]:
        """Predict images with every run; all runs share one pass through the frozen prefix."""
        tokens = self.classifier.adapted.run_frozen_prefix(x)
        for state in self.states:
            self.classifier.load_learned_state(state)
            yield self.classifier.predict(tokens)


class TestTimeAugmentation(PredictionAverage):
    """A model averaged over several views of a chip, such as crops or mirror images.

    Args:
        model: a model of images with side `size`.
        size: side of the views in pixels.
        take_views: returns the views of images, one of `VIEWS`.
    """

    __test__ = False  # pytest: the name begins with Test

    def __init__(self, model: SupportsPredict, size: int, take_views: TakeViews) -> None:
        super().__init__()
        self.model, self.size, self.take_views = model, size, take_views

    def member_predictions(self, x: Tensor) -> Iterable[Prediction]:
        """Predict every view of images with a margin m, which is 0 without crops, (B, P, S + m, S + m)."""
        return (self.model.predict(view.contiguous()) for view in self.take_views(x, self.size))


def with_tta(model: M, contract: Contract, evaluate: EvaluateSection) -> tuple[M | TestTimeAugmentation, Contract]:
    """Return a model with the test-time augmentation of `evaluate.tta`, and the contract of its input.

    Args:
        model: a model of images as `contract` describes them.
        contract: the contract of the bundle.
        evaluate: the section `evaluate` of the recipe.

    Returns:
        Model and contract; both unchanged if `evaluate.tta` is "none".
    """
    if evaluate.tta == "none":
        return model, contract
    return TestTimeAugmentation(model, contract.size, VIEWS[evaluate.tta]), tta_contract(contract, evaluate)


def tta_warning(recipe: Recipe, units: Iterable[str]) -> str:
    """Return a warning if `evaluate.tta` turns radar chips, else "".

    Args:
        recipe: the recipe of the run.
        units: units of the chips, or of the contract.
    """
    is_radar = recipe.data.augment == "sar" or recipe.data.declare is not None or not set(units) <= set(DIGITAL_UNITS)
    if recipe.evaluate.tta != "turns" or not is_radar:
        return ""
    return (
        "evaluate.tta is turns, and the chips are radar images: where the radar looks in the same direction in all "
        "chips, turns can lower the accuracy (measured on MSTAR, docs/results.md); use evaluate.tta=mirror"
    )


MAX_FILES = 8
"""Number of files that stay beside the cache of images; the oldest ones are deleted."""

_SUFFIX = ".outputs.npz"


def load_or_collect_outputs(
    bundle: Bundle,
    classifier: SupportsPredict,
    batches: Iterable[tuple[Tensor, Tensor]],
    images: Path,
    contract: Contract,
    device: str,
    on_progress: Callable[[int], object] | None = None,
) -> ClassifierOutputs:
    """Return the outputs of a bundle on all chips of a cache file, from disk if they were computed before.

    Args:
        bundle: the bundle; its calibrator does not count.
        classifier: its classifier, with the test-time views of its recipe.
        batches: all chips in order: inputs (B, P, S, S) and labels, which are ignored.
        images: the cache file of the chips (`ChipImages.images`), which is named after chips and contract.
        contract: the contract of the chips.
        device: the device of the classifier, "cpu" or "cuda".
        on_progress: called after each batch with the number of chips so far.

    Returns:
        Logits and features of all chips.
    """
    path = images.with_name(f"{_digest(bundle, images, contract, device)}{_SUFFIX}")
    with suppress(OSError, ValueError, KeyError, BadZipFile), np.load(path) as arrays:  # else computed again
        return ClassifierOutputs(arrays["logits"], arrays["features"])
    outputs = collect_outputs(classifier, batches, on_progress)
    with suppress(OSError):  # a full disk: only a cache
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **outputs._asdict())
        newest_first = sorted(path.parent.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime, reverse=True)
        for old in newest_first[MAX_FILES:]:
            old.unlink(missing_ok=True)
    return outputs


def _digest(bundle: Bundle, images: Path, contract: Contract, device: str) -> str:
    sections = {"backbone", "peft", "meta", "head", "evaluate"}
    chips = images.stem.partition("-")[2]  # without the hash of the manifest: other chips of the store do not count
    content = [
        __version__,
        device,
        chips,
        contract.model_dump(mode="json"),
        bundle.backbone_sha256,
        bundle.recipe.model_dump(mode="json", include=sections),
    ]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(bundle.tensors):
        digest.update(name.encode() + bundle.tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]
