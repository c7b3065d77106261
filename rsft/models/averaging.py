"""Averages of classifiers and of views of a chip."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from rsft.data.imagery.contract import Contract
from rsft.models.classifier import Classifier, Prediction, SupportsPredict
from rsft.models.outputs import VIEWS, TakeViews, average_outputs, tta_contract
from rsft.recipe.schema import EvaluateSection

M = TypeVar("M", bound=SupportsPredict)
"""Type of a model."""


def average_predictions(predictions: Iterable[Prediction]) -> Prediction:
    """Return the mean of several predictions of the same B images.

    Returns:
        The logarithm of the mean probabilities (B, C) as logits, and the mean features
        (B, D).
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
    """Ensemble of independent runs on one frozen backbone.

    Each prediction loads the state of every run in turn.

    Args:
        classifier: the classifier of the runs' common recipe, with its PEFT modules
            attached.
        states: the learned state of each run, from `Classifier.learned_state`.
    """

    def __init__(
        self, classifier: Classifier, states: Sequence[Mapping[str, Tensor]]
    ) -> None:
        super().__init__()
        self.classifier = classifier
        expected = classifier.learned_state()
        self.states = [
            {key: state.get(key, torch.zeros_like(x)) for key, x in expected.items()}
            for state in states
        ]

    def member_predictions(self, x: Tensor) -> Iterable[Prediction]:
        """Predict images with every run, in one pass through the frozen prefix."""
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

    def __init__(
        self, model: SupportsPredict, size: int, take_views: TakeViews
    ) -> None:
        super().__init__()
        self.model = model
        self.size = size
        self.take_views = take_views

    def member_predictions(self, x: Tensor) -> Iterable[Prediction]:
        """Predict every view of images (B, P, S + m, S + m) with a margin m.

        The margin is 0 without crops.
        """
        return (
            self.model.predict(view.contiguous())
            for view in self.take_views(x, self.size)
        )


def with_tta(
    model: M, contract: Contract, evaluate: EvaluateSection
) -> tuple[M | TestTimeAugmentation, Contract]:
    """Return a model with the augmentation of `evaluate.tta`, and its contract.

    Args:
        model: a model of images as `contract` describes them.
        contract: the contract of the bundle.
        evaluate: the section `evaluate` of the recipe.

    Returns:
        Model and contract; both unchanged if `evaluate.tta` is "none".
    """
    if evaluate.tta == "none":
        return model, contract
    return TestTimeAugmentation(
        model, contract.size, VIEWS[evaluate.tta]
    ), tta_contract(contract, evaluate)
