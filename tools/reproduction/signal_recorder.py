"""Train one short run, record the outer signals of every site without acting on them, and measure its final loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rsft.data.loading.batches import Batch, BatchSource
from rsft.data.loading.samplers import ClassBalancedSampler
from rsft.errors import RsftError
from rsft.models.classifier import Classifier
from rsft.peft.modules.scaled import LowRankModule
from rsft.recipe.schema import Recipe
from rsft.training.finetune import initialize_weights, make_learner, seed_generators, set_up
from rsft.training.learner import Learner
from rsft.types import Indices
from tools.reproduction.signal_runs import (
    BATCH_KINDS,
    FACTORS,
    HORIZONS,
    MEASURES,
    SignalResult,
    fisher_name,
    signal_name,
)

RECORD_EVERY = 3
"""Inner steps from one record to the next, as MetaLoRA's outer steps on the MSTAR data."""

SAMPLE_PER_CLASS = 80
"""Most validation chips of a class in the sample that measures the final loss."""


class SignalRecorder:
    """Signals of every site: products of outer gradients with the displacements of LoRA's factors.

    A displacement is start minus end of the inner steps, so that a positive product says: these steps reduced the outer
    loss, and a larger scale would have reduced it more. A horizon of h steps forgets exponentially, by 1 - 1/h per
    step. With B and h = infinity, the product is -<dL/dB, B> = -dL/d log m, the first-order gradient of MetaPEFT's
    scale m, because B is zero at first. With h = 1, it is hypergradient descent of the learning rate (Baydin et al.
    2018, https://arxiv.org/abs/1703.04782). The Fisher score of a site is the squared norm of its outer gradient
    (CrossEarth-Gate, 2025).

    Args:
        factors: A and B of every site.

    Attributes:
        sums: sum over all records, by signal (sites,).
    """

    def __init__(self, factors: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.parameters = dict(zip(FACTORS, (list(x) for x in zip(*factors, strict=True)), strict=True))
        self.sums: dict[str, NDArray[np.float64]] = {}
        self._before: dict[str, list[Tensor]] = {}
        self._displacements = {
            (factor, horizon): [torch.zeros_like(tensor) for tensor in tensors]
            for factor, tensors in self.parameters.items()
            for horizon in HORIZONS
        }

    def begin_step(self) -> None:
        """Remember the factors before an inner step."""
        self._before = {name: [x.detach().clone() for x in tensors] for name, tensors in self.parameters.items()}

    @torch.no_grad()
    def end_step(self) -> None:
        """Add an inner step to the displacements."""
        for (factor, horizon), displacements in self._displacements.items():
            pairs = zip(self._before[factor], self.parameters[factor], strict=True)
            for displacement, (before, after) in zip(displacements, pairs, strict=True):
                displacement.mul_(1 - 1 / horizon).add_(before - after)

    def add_loss(self, kind: str, loss: Tensor) -> None:
        """Add the signals of an outer batch; no parameter changes.

        Args:
            kind: outer batch, one of `BATCH_KINDS`.
            loss: its loss, a scalar.
        """
        tensors = [tensor for factor in FACTORS for tensor in self.parameters[factor]]
        gradients = torch.autograd.grad(loss, tensors)
        sites = len(gradients) // 2
        by_factor = dict(zip(FACTORS, (gradients[:sites], gradients[sites:]), strict=True))
        for (factor, horizon), displacements in self._displacements.items():
            pairs = list(zip(by_factor[factor], displacements, strict=True))
            dots = np.array([float((gradient * displacement).sum()) for gradient, displacement in pairs])
            norms = np.array([float(gradient.norm() * displacement.norm()) for gradient, displacement in pairs])
            for measure, values in zip(MEASURES, (dots, dots / (norms + 1e-20)), strict=True):
                self._add(signal_name(kind, factor, measure, horizon), values)
        squares = np.array([float(gradient.square().sum()) for gradient in gradients])
        self._add(fisher_name(kind), squares[:sites] + squares[sites:])

    def _add(self, name: str, values: NDArray[np.float64]) -> None:
        self.sums[name] = self.sums.get(name, 0) + values


class ValidationSample(NamedTuple):
    """Chips of the validation split, the same number of every class that has any.

    Attributes:
        inputs: network inputs (N, ...).
        labels: class indices (N,).
    """

    inputs: Tensor
    labels: Tensor

    @classmethod
    def draw(cls, chips: BatchSource) -> ValidationSample:
        """Draw the sample, which only depends on the chips.

        Args:
            chips: the validation chips.

        Returns:
            The sample.
        """
        rng = np.random.default_rng(0)
        classes, counts = np.unique(chips.labels, return_counts=True)
        size = min(int(counts.min()), SAMPLE_PER_CLASS)
        indices = [rng.permutation(np.flatnonzero(chips.labels == label))[:size] for label in classes]
        return cls(*chips.batch(np.concatenate(indices)))

    @torch.no_grad()
    def measure(self, classifier: Classifier, batch_size: int) -> tuple[float, float]:
        """Return cross entropy and macro accuracy (0-1) of a network, which is in evaluation mode afterwards.

        Args:
            classifier: the network.
            batch_size: chips in a forward pass.

        Returns:
            Loss and accuracy.
        """
        classifier.eval()
        logits = torch.cat([classifier(inputs).float() for inputs in torch.split(self.inputs, batch_size)])
        is_correct = (logits.argmax(1) == self.labels).float()
        recall = [float(is_correct[self.labels == label].mean()) for label in torch.unique(self.labels)]
        return float(functional.cross_entropy(logits, self.labels)), float(np.mean(recall))


class OuterBatches:
    """Draws the three outer batches of a record.

    Args:
        learner: the learner of the run.
        sample: the sample of the validation split.
        seed: seed of the run.
    """

    def __init__(self, learner: Learner, sample: ValidationSample, seed: int) -> None:
        self.learner, self.sample = learner, sample
        self.labels = learner.batches.train.labels
        self.rng = np.random.default_rng(seed)

    def loss(self, kind: str, epoch: int) -> Tensor:
        """Return the loss of the next outer batch.

        Args:
            kind: "random": training chips with the training loss; "balanced": training chips with equal probabilities
                of all classes and cross entropy; "validation": twice as many chips of the validation sample with cross
                entropy, an oracle that no method may use.
            epoch: number of the epoch from 0, for the augmentation.

        Returns:
            A scalar.
        """
        inputs, labels = self._draw(kind, epoch)
        logits = self.learner.classifier(inputs).float()
        return self.learner.loss.inner(logits, labels) if kind == "random" else functional.cross_entropy(logits, labels)

    def _draw(self, kind: str, epoch: int) -> Batch:
        size, chips = self.learner.train.batch_size, len(self.labels)
        if kind == "validation":
            chosen = self.rng.choice(len(self.sample.labels), min(2 * size, len(self.sample.labels)), replace=False)
            return self.sample.inputs[chosen], self.sample.labels[chosen]
        indices: Indices
        if kind == "random":
            indices = self.rng.choice(chips, min(size, chips), replace=False)
        else:
            indices = ClassBalancedSampler().draw(self.labels, np.arange(chips), size, self.rng)
        return self.learner.batches.load(indices, epoch)


def train_short_run(recipe: Recipe, *, record: bool) -> SignalResult:
    """Train one run on the CPU without writing a run folder, and measure its final loss.

    Args:
        recipe: recipe of plain LoRA.
        record: also record the signals. The parameters at the end are the same with and without.

    Returns:
        The result.

    Raises:
        RequestError: data or a backbone is missing.
        RsftError: a loss is not finite.
    """
    seed_generators(recipe.seed)
    setup = set_up(recipe)
    initialize_weights(setup, recipe)
    learner = make_learner(recipe, setup)
    adapted = setup.classifier.adapted
    sample = ValidationSample.draw(learner.batches.val)
    module = cast(LowRankModule, adapted.adapter_modules[0])
    recorder = SignalRecorder([module.factors(site) for site in adapted.sites]) if record else None
    take_inner_steps(learner, recorder, OuterBatches(learner, sample, recipe.seed))
    loss, accuracy = sample.measure(setup.classifier, recipe.evaluate.batch_size)
    if not math.isfinite(loss):
        raise RsftError(f"the final loss is {loss}", recipe.name, "use a lower learning rate or smaller scales")
    signals = {} if recorder is None else {name: list(map(float, sums)) for name, sums in recorder.sums.items()}
    return SignalResult(loss, accuracy, list(map(str, adapted.sites)), signals)


def take_inner_steps(learner: Learner, recorder: SignalRecorder | None, outer: OuterBatches) -> None:
    """Take all inner steps of a run, and record signals after every third step.

    Args:
        learner: the learner of the run.
        recorder: receives the steps and the losses of the outer batches; None for no signals.
        outer: draws the outer batches.
    """
    step = 0
    for epoch in range(learner.train.epochs):
        learner.classifier.train()
        for index, batch in enumerate(learner.batches.training_loader(epoch)):
            learner.prepare_step(epoch, index)
            if recorder:
                recorder.begin_step()
            learner.loops.inner_step((batch[0], batch[1]))
            step += 1
            if recorder:
                recorder.end_step()
                for kind in BATCH_KINDS if step % RECORD_EVERY == 0 else ():
                    recorder.add_loss(kind, outer.loss(kind, epoch))
