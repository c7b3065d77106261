"""Averages of predicted probabilities: over independent runs, or over test-time views of a chip."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from rsft.data.imagery.contract import Contract
from rsft.data.imagery.units import DIGITAL_UNITS
from rsft.models.classifier import Classifier, Prediction
from rsft.recipe.schema import EvaluateSection, Recipe


class SupportsPredict(Protocol):
    """A model in any engine that predicts logits and features of images."""

    def predict(self, x: Tensor, /) -> Prediction:
        """Predict images.

        Args:
            x: images (B, P, S, S).

        Returns:
            Logits (B, C) and features (B, D).
        """


M = TypeVar("M", bound=SupportsPredict)
"""Type of a model."""


def average_predictions(predictions: Iterable[Prediction]) -> Prediction:
    """Return the mean of several predictions.

    Args:
        predictions: predictions of the same B images.

    Returns:
        The logarithm of the mean probabilities (B, C) as logits, and the mean features (B, D).
    """
    logits, features = zip(*predictions, strict=True)
    log_probabilities = torch.stack([member.float().log_softmax(dim=1) for member in logits])
    mean_logits = log_probabilities.logsumexp(dim=0) - math.log(len(log_probabilities))
    return Prediction(mean_logits, torch.stack(features).mean(dim=0))


class PredictionAverage(nn.Module, ABC):
    """A model that predicts the mean of several predictions (`average_predictions`)."""

    @abstractmethod
    def member_predictions(self, x: Tensor) -> Iterable[Prediction]:
        """Predict images with every member.

        Args:
            x: images (B, P, S, S).

        Returns:
            The predictions to average.
        """

    def predict(self, x: Tensor) -> Prediction:
        """Predict images.

        Args:
            x: images (B, P, S, S).

        Returns:
            Mean logits (B, C) and features (B, D).
        """
        return average_predictions(self.member_predictions(x))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean logits of images.

        Args:
            x: images (B, P, S, S).

        Returns:
            Logits (B, C).
        """
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
        """Predict images with every run; all runs share one pass through the frozen prefix.

        Args:
            x: images (B, P, S, S).

        Yields:
            The prediction of each run.
        """
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
        """Predict every view.

        Args:
            x: images with a margin m, which is 0 without crops, (B, P, S + m, S + m).

        Returns:
            The prediction of each view.
        """
        return (self.model.predict(view) for view in self.take_views(x, self.size))


TakeViews = Callable[[Tensor, int], list[Tensor]]
"""Returns views (B, P, size, size) of images (B, P, H, W), given the images and `size`."""


def take_crops(images: Tensor, size: int) -> list[Tensor]:
    """Return crops of the corners and the center of images.

    Args:
        images: (B, P, H, W).
        size: side of the crops in pixels.

    Returns:
        Five tensors (B, P, size, size).
    """
    bottom, right = images.shape[2] - size, images.shape[3] - size
    offsets = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return [images[:, :, top : top + size, left : left + size] for top, left in offsets]


def add_mirror_images(views: Sequence[Tensor]) -> list[Tensor]:
    """Return views and their mirror images, flipped left to right (the last axis).

    Args:
        views: tensors (B, P, S, S).

    Returns:
        Twice as many tensors.
    """
    return [*views, *(view.flip(3) for view in views)]


def add_turns(views: Sequence[Tensor]) -> list[Tensor]:
    """Return views turned by 0, 90, 180 and 270 degrees.

    Args:
        views: tensors (B, P, S, S).

    Returns:
        Four times as many tensors.
    """
    return [view.rot90(turns, (2, 3)).contiguous() for view in views for turns in range(4)]


VIEWS: dict[str, TakeViews] = {
    "five-crop": take_crops,
    "ten-crop": lambda images, size: add_mirror_images(take_crops(images, size)),
    "mirror": lambda images, size: add_mirror_images([images]),
    "turns": lambda images, size: add_turns(add_mirror_images([images])),
}
"""The views of a chip by the value of `evaluate.tta`."""


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


def tta_contract(contract: Contract, evaluate: EvaluateSection) -> Contract:
    """Return the contract for test-time augmentation, with a size larger by the margin of its crops.

    Args:
        contract: the contract of the bundle.
        evaluate: the section `evaluate` of the recipe.

    Returns:
        The new contract; `contract` itself if `evaluate.tta` makes no crops.
    """
    if not evaluate.crop_margin:
        return contract
    return contract.model_copy(update={"size": contract.size + evaluate.crop_margin})


def tta_warning(recipe: Recipe, units: Iterable[str]) -> str:
    """Return a warning if `evaluate.tta` turns radar chips.

    Args:
        recipe: the recipe of the run.
        units: units of the chips, or of the contract.

    Returns:
        The warning; "" without a reason for one.
    """
    is_radar = recipe.data.augment == "sar" or recipe.data.declare is not None or not set(units) <= set(DIGITAL_UNITS)
    if recipe.evaluate.tta != "turns" or not is_radar:
        return ""
    return (
        "evaluate.tta is turns, and the chips are radar images: where the radar looks in the same direction in all "
        "chips, turns can lower the accuracy (measured on MSTAR, docs/results.md); use evaluate.tta=mirror"
    )
