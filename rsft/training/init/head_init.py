"""Initialize the weights of a head from the features of the training chips."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsft.errors import RequestError
from rsft.models.classifier import HeadAverage
from rsft.recipe.schema import HeadSection
from rsft.training.init.discriminant import fit_discriminant

_ROWS = 4096  # chips whose normalized features are in memory


def init_head(
    head: nn.Module, section: HeadSection, features: Tensor, labels: Tensor, seed: int
) -> None:
    """Initialize a head by the method `head.init`; "random" changes nothing.

    With "class-mean" and "k-shot", biases are set to 0.

    Args:
        head: linear or cosine head of C classes, or a `HeadAverage` of such heads.
        section: the section `head` of the recipe.
        features: features of the training chips (N, D); for a `HeadAverage` those of
            its heads side by side.
        labels: class indices of these chips (N,).
        seed: the seed of the recipe.

    Raises:
        RequestError: a class has no training chip.
    """
    if section.init == "random":
        return
    if isinstance(head, HeadAverage):
        for member, part in zip(
            head.heads, features.chunk(len(head.heads), dim=1), strict=True
        ):
            init_head(member, section, part, labels, seed)
        return
    weight = head.weight
    bias = getattr(head, "bias", None)
    assert isinstance(weight, Tensor)
    n_classes = len(weight)
    counts = torch.bincount(labels, minlength=n_classes)
    if not counts.all():
        empty = (counts == 0).nonzero().flatten().tolist()
        raise RequestError(
            f"classes {empty} have no training chip",
            "head.init",
            "use head.init=random",
        )
    if section.init == "linear-probe":
        new_weight, new_bias = fit_linear_probe(
            features, labels, seed, cosine=section.kind == "cosine"
        )
    elif section.init == "lda":
        discriminant = fit_discriminant(
            features.cpu().numpy(), labels.cpu().numpy(), n_classes
        )
        new_weight = torch.from_numpy(discriminant.weight)
        new_bias = torch.from_numpy(discriminant.bias)
    else:
        if section.init == "k-shot":
            chosen = sample_shots(labels, section.shots, seed)
            features = features[chosen]
            labels = labels[chosen]
        # the mean of the L2-normalized features of each class, normalized again
        sums = features.new_zeros(n_classes, features.shape[1])
        for first in range(0, len(labels), _ROWS):
            rows = slice(first, first + _ROWS)
            sums.index_add_(0, labels[rows], F.normalize(features[rows], dim=1))
        new_weight = F.normalize(sums, dim=1)
        new_bias = torch.zeros(n_classes)
    with torch.no_grad():
        weight.copy_(new_weight)
        if isinstance(bias, Tensor):
            bias.copy_(new_bias)


def sample_shots(labels: Tensor, shots: int, seed: int) -> Tensor:
    """Draw chips of each class without replacement.

    Args:
        labels: (N,).
        shots: number of chips of a class; of a class with fewer chips, all are drawn.
        seed: the seed of the recipe.

    Returns:
        Sorted indices (M,).
    """
    rng = np.random.default_rng((seed, 3))
    numbers = labels.cpu().numpy()
    chosen = [
        rng.permutation(np.flatnonzero(numbers == label))[:shots]
        for label in np.unique(numbers)
    ]
    return torch.from_numpy(np.sort(np.concatenate(chosen))).to(labels.device)


def fit_linear_probe(
    features: Tensor, labels: Tensor, seed: int, *, cosine: bool
) -> tuple[Tensor, Tensor]:
    """Fit scikit-learn's multinomial logistic regression with balanced class weights.

    For a cosine head, features are L2-normalized and biases are 0. For a linear head,
    features are divided by their mean norm, and the returned weights are rescaled to
    the original features. For two classes scikit-learn fits one weight vector, which is
    split into halves of opposite sign; this does not change the probabilities.

    Args:
        features: (N, D).
        labels: (N,).
        seed: the seed of the recipe.
        cosine: True for a cosine head, False for a linear head.

    Returns:
        Weights (C, D) and biases (C,).
    """
    from sklearn.linear_model import LogisticRegression

    norms = features.double().norm(dim=1, keepdim=True)
    inputs = features.double() / (norms if cosine else norms.mean())
    probe = LogisticRegression(
        C=100.0,
        max_iter=1000,
        class_weight="balanced",
        fit_intercept=not cosine,
        random_state=seed,
    )
    probe.fit(inputs.cpu().numpy(), labels.cpu().numpy())
    weight = torch.from_numpy(np.atleast_2d(probe.coef_)) / (
        1 if cosine else norms.mean().cpu()
    )
    intercept = torch.from_numpy(np.broadcast_to(probe.intercept_, len(weight)).copy())
    if len(weight) == 1:
        weight = torch.cat([-weight, weight]) / 2
        intercept = torch.cat([-intercept, intercept]) / 2
    return weight, intercept
