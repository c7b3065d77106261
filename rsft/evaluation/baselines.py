"""Two cheap baselines for every run: k-nearest neighbors on frozen features and on small images."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

NEIGHBORS = 5
"""scikit-learn's default. It was fixed before any result was seen and is not tuned.

With five votes, a tail class of two training chips can only win by small distances. Plain k-NN on a long tail behaves
like this, so read the group columns and not only the overall accuracy.
"""

IMAGE_SIZE = 16
"""Height and width in pixels of the images that `flatten_small_images` makes."""


def knn_predict(
    train_x: NDArray[Any],
    train_y: NDArray[np.integer],
    test_x: NDArray[Any],
    n_classes: int,
    k: int = NEIGHBORS,
    metric: Literal["cosine", "euclidean"] = "cosine",
) -> NDArray[np.float64]:
    """Return class probabilities from the votes of the nearest training samples.

    A vote has the weight 1 / distance. With equal weights a tie would go to the lower class index.

    Args:
        train_x: (N, D) features or pixels. Use the cosine distance for features and the Euclidean one for pixels.
        train_y: (N,) class indices. A class without training chips gets probability 0.
        test_x: (M, D).
        n_classes: number of columns of the result.
        k: number of neighbors; all N if there are fewer.
        metric: the distance.

    Returns:
        (M, n_classes); each row sums to 1.
    """
    model = KNeighborsClassifier(min(k, len(train_x)), weights="distance", metric=metric, algorithm="brute")
    model.fit(train_x, train_y)
    probabilities = np.zeros((len(test_x), n_classes))
    probabilities[:, model.classes_] = model.predict_proba(test_x)
    return probabilities


def flatten_small_images(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Average images down to 16 x 16 pixels and flatten them.

    Args:
        images: (N, H, W, P) bytes.

    Returns:
        (N, 256) gray values in 0-255 for three planes, which are taken as RGB; (N, 256 P) otherwise.
    """
    rows: list[NDArray[np.float32]] = []
    for image in images:
        planes = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image
        small = cv2.resize(planes.astype(np.float32), (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)
        rows.append(small.ravel())
    return np.stack(rows)
