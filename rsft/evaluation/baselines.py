"""Cheap baselines of an evaluation: k-nearest neighbors and linear classifiers.

They use frozen features or small images.
"""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from rsft.data.imagery.resize import resize_image
from rsft.training.init.discriminant import fit_discriminant
from rsft.types import Bytes, Floats, Floats32, Indices, Labels
from rsft.utils.stored_rows import Rows, blocks

NEIGHBORS = 5
"""Number of neighbors: scikit-learn's default, which was fixed before the first result
and is not tuned.

With five votes, a tail class with two training chips only wins if their distances are
small. Class-balanced votes correct this in part.
"""

PROBE_C = 100.0
"""Inverse of the L2 penalty of the linear probe, as of the head initialization
`linear-probe`; it is not tuned."""

MAX_PROBE_CHIPS = 2**15
"""Training chips of the linear probe, whose features must all be in memory."""

IMAGE_SIZE = 16
"""Height and width in pixels of the images that `flatten_small_image` makes."""


def knn_predict(
    train_x: Rows,
    train_y: Labels,
    test_x: Rows,
    n_classes: int,
    k: int = NEIGHBORS,
    metric: Literal["cosine", "euclidean"] = "cosine",
) -> Floats:
    """Compute class probabilities from the votes of the nearest training samples.

    A vote has the weight 1 / distance. With equal weights, ties would always go to the
    lower class index. If samples are equal to a test sample, they alone vote.

    Args:
        train_x: (N, D) features or pixels. Use the cosine distance for features and the
            Euclidean one for pixels.
        train_y: (N,) class indices. A class without training chips gets probability 0.
        test_x: (M, D) features or pixels.
        n_classes: number of columns of the result.
        k: number of neighbors, at most N.
        metric: the distance.

    Returns:
        Probabilities (M, n_classes): the shares of the votes.
    """
    probabilities = np.zeros((len(test_x), n_classes))
    classes, labels = np.unique(train_y, return_inverse=True)
    for block in blocks(len(test_x)):
        distances, neighbors = _find_neighbors(train_x, test_x[block], k, metric)
        with np.errstate(divide="ignore"):
            weights = 1 / distances
        is_equal = np.isinf(weights)
        has_equal = is_equal.any(axis=1, keepdims=True)
        weights = np.where(has_equal, is_equal, weights)
        votes = np.zeros((len(distances), len(classes)))
        np.add.at(votes, (np.arange(len(votes))[:, None], labels[neighbors]), weights)
        votes /= votes.sum(axis=1, keepdims=True)
        probabilities[block, classes] = votes
    return probabilities


def _find_neighbors(
    train_x: Rows, test_x: NDArray[Any], k: int, metric: str
) -> tuple[Floats, Indices]:
    """Return the distances and indices of the k nearest rows (M, k), nearest first."""
    distances = np.empty((len(test_x), 0))
    neighbors = np.empty((len(test_x), 0), np.int64)
    # half the squared distance of unit vectors, which scikit-learn searches without a
    # matrix
    is_cosine = metric == "cosine"
    if is_cosine:
        test_x = normalize(test_x)
    for block in blocks(len(train_x)):
        rows = normalize(train_x[block]) if is_cosine else train_x[block]
        search = NearestNeighbors(
            n_neighbors=min(k, len(rows)),
            metric="sqeuclidean" if is_cosine else metric,
            algorithm="brute",
        )
        nearest, indices = search.fit(rows).kneighbors(test_x)
        distances = np.hstack([distances, nearest])
        neighbors = np.hstack([neighbors, indices + block.start])
        order = distances.argsort(axis=1, kind="stable")[:, :k]
        distances = np.take_along_axis(distances, order, axis=1)
        neighbors = np.take_along_axis(neighbors, order, axis=1)
    return distances, neighbors


def balance_votes(votes: Floats, train_y: Labels) -> Floats:
    """Divide the votes of each class by its training samples, and normalize them.

    Args:
        votes: (M, C), from `knn_predict`; those of a class without training samples are
            0.
        train_y: (N,) class indices of the training samples.

    Returns:
        Probabilities (M, C).
    """
    balanced = votes / np.maximum(np.bincount(train_y, minlength=votes.shape[1]), 1)
    probabilities: Floats = balanced / balanced.sum(axis=1, keepdims=True)
    return probabilities


def linear_probe_predict(
    train_x: NDArray[Any],
    train_y: Labels,
    test_x: Rows,
    n_classes: int,
) -> Floats:
    """Compute class probabilities by logistic regression on normalized features.

    Logits are adjusted by the class prior.

    The log of the class prior is subtracted from the logits (post-hoc logit adjustment,
    Menon et al. 2021, https://arxiv.org/abs/2007.07314).

    Args:
        train_x: (N, D) features.
        train_y: (N,) class indices. A class without training chips gets probability 0.
        test_x: (M, D) features.
        n_classes: number of columns of the result.

    Returns:
        Probabilities (M, n_classes).
    """
    classes, counts = np.unique(train_y, return_counts=True)
    logits = np.full((len(test_x), n_classes), -np.inf)
    if len(classes) == 1:
        logits[:, classes] = 0  # scikit-learn needs two classes
    else:
        probe = LogisticRegression(C=PROBE_C, max_iter=1000)
        probe.fit(normalize(train_x), train_y)
        logits[:, classes] = -np.log(counts)
        for block in blocks(len(test_x)):
            decision = probe.decision_function(normalize(test_x[block]))
            # of two classes: of the second
            decision = decision.reshape(len(decision), -1)
            logits[block, classes[-decision.shape[1] :]] += decision
    probabilities: Floats = softmax(logits, axis=1)
    return probabilities


def choose_probe_chips(train_y: Labels) -> Indices:
    """Return the training chips of the linear probe (n,), at most `MAX_PROBE_CHIPS`.

    Of more chips, the largest classes are left with equal numbers, drawn at random.

    Args:
        train_y: (N,) class indices.
    """
    order = np.random.default_rng(0).permutation(len(train_y))
    ranks = np.empty(len(train_y), np.int64)
    for label in np.unique(train_y):
        members = order[train_y[order] == label]
        ranks[members] = np.arange(len(members))
    return np.sort(ranks.argsort(kind="stable")[:MAX_PROBE_CHIPS])


def discriminant_predict(
    train_x: Rows,
    train_y: Labels,
    test_x: Rows,
    n_classes: int,
) -> Floats:
    """Compute class probabilities by linear discriminant analysis.

    Args:
        train_x: (N, D) features.
        train_y: (N,) class indices. A class without training chips gets probability 0.
        test_x: (M, D) features.
        n_classes: number of columns of the result.

    Returns:
        Probabilities (M, n_classes).
    """
    discriminant = fit_discriminant(train_x, train_y, n_classes)
    logits = [
        test_x[block] @ discriminant.weight.T + discriminant.bias
        for block in blocks(len(test_x))
    ]
    probabilities: Floats = softmax(np.concatenate(logits), axis=1)
    return probabilities


def flatten_small_image(image: Bytes) -> Floats32:
    """Shrink an image (H, W, P) to 16 x 16 pixels by averaging, and flatten it.

    Returns:
        (1, 256) gray values in 0-255 for three planes, which are taken as RGB; (1, 256
        P) otherwise.
    """
    planes: NDArray[Any] = image
    if image.shape[2] == 3:
        planes = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None]
    return resize_image(
        planes.astype(np.float32), (IMAGE_SIZE, IMAGE_SIZE), by_area=True
    ).reshape(1, -1)
