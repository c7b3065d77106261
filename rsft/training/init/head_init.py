"""How a head starts: from features of the frozen backbone, taken in one pass over the training chips."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.errors import RequestError
from rsft.recipe.schema import Head


def start_head(head: nn.Module, section: Head, features: Tensor, labels: Tensor, seed: int) -> None:
    """Start `head` as `section` says, from features (N, D) and labels (N,); "random" leaves it as it is.

    A bias becomes 0 where the start is a mean.

    Raises:
        RequestError: a class without a training chip.
    """
    if section.init == "random":
        return
    classes = len(_weight(head))
    counts = torch.bincount(labels, minlength=classes)
    if not counts.all():
        lacking = (counts == 0).nonzero().flatten().tolist()
        raise RequestError(f"classes {lacking} have no training chip", "head.init", "use head.init=random")
    if section.init == "linear-probe":
        weight, bias = linear_probe(features, labels, seed, cosine=section.kind == "cosine")
    else:
        if section.init == "k-shot":
            chosen = draw_shots(labels, section.shots, seed)
            features, labels = features[chosen], labels[chosen]
        weight, bias = class_means(features, labels, classes), torch.zeros(classes)
    _set(head, weight, bias)


def class_means(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Of each class the mean of its L2-normalised features (N, D), normalised again: (C, D)."""
    sums = features.new_zeros(classes, features.shape[1]).index_add_(0, labels, F.normalize(features, dim=1))
    return F.normalize(sums, dim=1)


def draw_shots(labels: Tensor, shots: int, seed: int) -> Tensor:
    """Indices of `shots` chips a class, drawn without replacement; of all its chips where a class has fewer."""
    rng, numbers = np.random.default_rng((seed, 3)), labels.cpu().numpy()
    chosen = [rng.permutation(np.flatnonzero(numbers == label))[:shots] for label in np.unique(numbers)]
    return torch.from_numpy(np.sort(np.concatenate(chosen))).to(labels.device)


def linear_probe(features: Tensor, labels: Tensor, seed: int, *, cosine: bool) -> tuple[Tensor, Tensor]:
    """Weights (C, D) and biases (C,) of scikit-learn's multinomial logistic regression on features (N, D).

    It sees them L2-normalised and has no bias where they go to a cosine head; else it sees them divided by their mean
    norm, and the weights are for features as they are. Classes count alike (`class_weight="balanced"`), as they do in
    the class means. Two classes get one weight there, which is split here into halves of opposite sign: the same
    probabilities.
    """
    norms = features.double().norm(dim=1, keepdim=True)
    inputs = features.double() / (norms if cosine else norms.mean())
    probe = LogisticRegression(
        C=100.0, max_iter=1000, class_weight="balanced", fit_intercept=not cosine, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a start need not be the optimum
        probe.fit(inputs.cpu().numpy(), labels.cpu().numpy())
    weight = torch.from_numpy(np.atleast_2d(probe.coef_)) / (1 if cosine else norms.mean().cpu())
    intercept = torch.from_numpy(np.broadcast_to(probe.intercept_, len(weight)).copy())
    if len(weight) == 1:
        weight, intercept = torch.cat([-weight, weight]) / 2, torch.cat([-intercept, intercept]) / 2
    return weight, intercept


@torch.no_grad()
def _set(head: nn.Module, weight: Tensor, bias: Tensor) -> None:
    _weight(head).copy_(weight)
    own = getattr(head, "bias", None)
    if isinstance(own, Tensor):
        own.copy_(bias)


def _weight(head: nn.Module) -> Tensor:
    assert isinstance(head.weight, Tensor)
    return head.weight
