"""Several answers to one question, averaged as probabilities: of independent runs, of views of a chip."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from rsft.data.imagery.contract import Contract
from rsft.models.classifier import Answer, Classifier
from rsft.recipe.schema import Evaluate


class Answering(Protocol):
    """What gives logits and features of images, in whatever runtime."""

    def answer(self, x: Tensor, /) -> Answer:
        """(B, P, S, S) -> logits (B, C) and features (B, D)."""


M = TypeVar("M", bound=Answering)


def averaged(answers: Iterable[Answer]) -> Answer:
    """The mean of several answers: of probabilities, whose logarithm stands for logits, and of features."""
    logits, features = zip(*answers, strict=True)
    logs = torch.stack([each.float().log_softmax(dim=1) for each in logits])
    return Answer(logs.logsumexp(dim=0) - math.log(len(logs)), torch.stack(features).mean(dim=0))


class Average(nn.Module, ABC):
    """What answers with the mean of several answers, see `averaged`."""

    @abstractmethod
    def answers(self, x: Tensor) -> Iterable[Answer]:
        """Each of them."""

    def answer(self, x: Tensor) -> Answer:
        """(B, P, S, S) -> logits (B, C) and features (B, D)."""
        return averaged(self.answers(x))

    def forward(self, x: Tensor) -> Tensor:
        """(B, P, S, S) -> logits (B, C)."""
        return self.answer(x).logits


class Ensemble(Average):
    """Independent runs on one frozen backbone, which is held once: what was learned is exchanged for every answer.

    Args:
        classifier: of the recipe that all runs share, its modules on it.
        states: what each run learned, as `Classifier.learned_state` gives it.
    """

    def __init__(self, classifier: Classifier, states: Sequence[Mapping[str, Tensor]]) -> None:
        super().__init__()
        self.classifier = classifier
        own = classifier.learned_state()
        self.states = [{key: state.get(key, torch.zeros_like(own[key])) for key in own} for state in states]

    def answers(self, x: Tensor) -> Iterable[Answer]:
        """Of each run; what lies below the first adapted block is computed once."""
        below = self.classifier.adapted.below(x)
        for state in self.states:
            self.classifier.load_learned_state(state)
            yield self.classifier.answer(below)


class Views(Average):
    """Crops of a larger image: its corners and its centre, and with `mirrored` the same flipped left to right.

    Args:
        model: takes images of side `size`.
    """

    def __init__(self, model: Answering, size: int, *, mirrored: bool) -> None:
        super().__init__()
        self.model, self.size, self.mirrored = model, size, mirrored

    def answers(self, x: Tensor) -> Iterable[Answer]:
        """Of each crop of images (B, P, S + m, S + m)."""
        return (self.model.answer(crop) for crop in crops(x, self.size, mirrored=self.mirrored))


def crops(images: Tensor, size: int, *, mirrored: bool) -> list[Tensor]:
    """Corners and centre of images (B, P, H, W), five times (B, P, size, size), or ten with the mirrored ones."""
    bottom, right = images.shape[2] - size, images.shape[3] - size
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    found = [images[:, :, top : top + size, left : left + size] for top, left in places]
    return found + [crop.flip(3) for crop in found] if mirrored else found


def with_views(model: M, contract: Contract, evaluate: Evaluate) -> tuple[M | Views, Contract]:
    """A model that looks at chips as `evaluate.tta` says, and the contract by which it takes them: of larger images.

    With "none" both are what was given.
    """
    if evaluate.tta == "none":
        return model, contract
    return Views(model, contract.size, mirrored=evaluate.tta == "ten-crop"), seen_contract(contract, evaluate)


def seen_contract(contract: Contract, evaluate: Evaluate) -> Contract:
    """The contract by which chips are taken that are looked at as `evaluate.tta` says."""
    if evaluate.tta == "none":
        return contract
    return contract.model_copy(update={"size": contract.size + evaluate.margin})
