"""Averages of predicted probabilities: over independent runs, or over crops of a chip."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from rsft.data.imagery.contract import Contract
from rsft.models.classifier import Classifier, Prediction
from rsft.recipe.schema import EvaluateSection


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
    """A model averaged over crops of a larger image: corners and center, and optionally their mirror images.

    Args:
        model: a model of images with side `size`.
        size: side of the crops in pixels.
        mirrored: whether to add the crops flipped left to right.
    """

    __test__ = False  # pytest: the name begins with Test

    def __init__(self, model: SupportsPredict, size: int, *, mirrored: bool) -> None:
        super().__init__()
        self.model, self.size, self.mirrored = model, size, mirrored

    def member_predictions(self, x: Tensor) -> Iterable[Prediction]:
        """Predict every crop.

        Args:
            x: images with a margin, (B, P, S + m, S + m).

        Returns:
            The prediction of each crop.
        """
        return (self.model.predict(crop) for crop in take_crops(x, self.size, mirrored=self.mirrored))


def take_crops(images: Tensor, size: int, *, mirrored: bool) -> list[Tensor]:
    """Return crops of the corners and the center of images.

    Args:
        images: (B, P, H, W).
        size: side of the crops in pixels.
        mirrored: whether to add the crops flipped left to right.

    Returns:
        Five or ten tensors (B, P, size, size).
    """
    bottom, right = images.shape[2] - size, images.shape[3] - size
    offsets = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = [images[:, :, top : top + size, left : left + size] for top, left in offsets]
    return crops + [crop.flip(3) for crop in crops] if mirrored else crops


def with_tta(model: M, contract: Contract, evaluate: EvaluateSection) -> tuple[M | TestTimeAugmentation, Contract]:
    """Return a model with the test-time augmentation of `evaluate.tta`, and the contract of its larger input.

    Args:
        model: a model of images as `contract` describes them.
        contract: the contract of the bundle.
        evaluate: the section `evaluate` of the recipe.

    Returns:
        Model and contract; both unchanged if `evaluate.tta` is "none".
    """
    if evaluate.tta == "none":
        return model, contract
    augmented = TestTimeAugmentation(model, contract.size, mirrored=evaluate.tta == "ten-crop")
    return augmented, tta_contract(contract, evaluate)


def tta_contract(contract: Contract, evaluate: EvaluateSection) -> Contract:
    """Return the contract for test-time augmentation, with a size larger by `evaluate.margin`.

    Args:
        contract: the contract of the bundle.
        evaluate: the section `evaluate` of the recipe.

    Returns:
        The new contract; `contract` itself if `evaluate.tta` is "none".
    """
    if evaluate.tta == "none":
        return contract
    return contract.model_copy(update={"size": contract.size + evaluate.margin})
