"""Cheap baselines of an evaluation: k-nearest neighbors and linear classifiers.

They use frozen features or small images.
"""

from collections.abc import Iterable
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from rsft.data.imagery.resize import resize_image
from rsft.training.init.discriminant import fit_discriminant
from rsft.types import Bytes, Floats

NEIGHBORS = 5
"""Number of neighbors: scikit-learn's default, which was fixed before the first result
and is not tuned.

With five votes, a tail class with two training chips only wins if their distances are
small. Class-balanced votes correct this in part.
"""

PROBE_C = 100.0
"""Inverse of the L2 penalty of the linear probe, as of the head initialization
`linear-probe`; it is not tuned."""

IMAGE_SIZE = 16
"""Height and width in pixels of the images that `flatten_small_images` makes."""


def knn_predict(
    train_x: NDArray[Any],
    train_y: NDArray[np.integer],
    test_x: NDArray[Any],
    n_classes: int,
    k: int = NEIGHBORS,
    metric: Literal["cosine", "euclidean"] = "cosine",
) -> Floats:
    """Compute class probabilities from the votes of the nearest training samples.

    A vote has the weight 1 / distance. With equal weights, ties would always go to the
    lower class index.

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
    distance: str = metric
    # half the squared distance of unit vectors, which scikit-learn searches without a
    # matrix
    if metric == "cosine":
        train_x = _unit_rows(train_x)
        test_x = _unit_rows(test_x)
        distance = "sqeuclidean"
    model = KNeighborsClassifier(
        min(k, len(train_x)), weights="distance", metric=distance, algorithm="brute"
    )
    model.fit(train_x, train_y)
    probabilities: Floats = np.zeros((len(test_x), n_classes))
    probabilities[:, model.classes_] = model.predict_proba(test_x)
    return probabilities


def _unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows divided by their lengths.

    An array whose rows have length 1 is returned itself, for less memory.
    """
    has_length_one = np.allclose(
        np.einsum("nd,nd->n", rows, rows), 1, rtol=0, atol=1e-5
    )
    return rows if has_length_one else normalize(rows)


def balance_votes(votes: Floats, train_y: NDArray[np.integer]) -> Floats:
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
    train_y: NDArray[np.integer],
    test_x: NDArray[Any],
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
        probe.fit(_unit_rows(train_x), train_y)
        # of two classes: of the second
        decision = probe.decision_function(_unit_rows(test_x)).reshape(len(test_x), -1)
        logits[:, classes] = -np.log(counts)
        logits[:, classes[-decision.shape[1] :]] += decision
    probabilities: Floats = softmax(logits, axis=1)
    return probabilities


def discriminant_predict(
    train_x: NDArray[Any],
    train_y: NDArray[np.integer],
    test_x: NDArray[Any],
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
    logits = test_x @ discriminant.weight.T + discriminant.bias
    probabilities: Floats = softmax(logits, axis=1)
    return probabilities


def flatten_small_images(images: Iterable[Bytes], count: int) -> NDArray[np.float32]:
    """Shrink images to 16 x 16 pixels by averaging, and flatten them.

    Args:
        images: N images (H, W, P), read one by one.
        count: N.

    Returns:
        (N, 256) gray values in 0-255 for three planes, which are taken as RGB; (N, 256
        P) otherwise.
    """
    rows = np.empty((count, 0), np.float32)
    for index, image in enumerate(images):
        planes: NDArray[Any] = image
        if image.shape[2] == 3:
            planes = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None]
        size = (IMAGE_SIZE, IMAGE_SIZE)
        row = resize_image(planes.astype(np.float32), size, by_area=True).ravel()
        if not index:
            rows = np.empty((count, row.size), np.float32)
        rows[index] = row
    return rows
