"""Two cheap baselines that every run is shown beside: k-nearest neighbours on frozen features and on small pixels."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

NEIGHBOURS = 5
"""scikit-learn's default, fixed before any result was seen and not tuned.

Five votes favour the head: a tail class of two training chips can win by nearness only. That is what plain k-NN does on
a long tail, so read the group columns and not the overall number alone.
"""

SIDE = 16


def knn_predict(
    train_x: NDArray[Any],
    train_y: NDArray[np.integer],
    test_x: NDArray[Any],
    n_classes: int,
    k: int = NEIGHBOURS,
    metric: Literal["cosine", "euclidean"] = "cosine",
) -> NDArray[np.float64]:
    """Class probabilities (M, n_classes) of `test_x` (M, D) by the votes of its neighbours in `train_x` (N, D).

    A vote weighs 1 / distance: with equal votes a tie would go to the lower class index, whatever the chips look like.

    Args:
        train_x: features take the cosine distance, pixels the euclidean.
        train_y: (N,) class indices; a class without training chips gets probability 0.
        test_x: same columns as `train_x`.
        n_classes: columns of the result.
        k: neighbours; all N where there are fewer.
        metric: the distance.
    """
    model = KNeighborsClassifier(min(k, len(train_x)), weights="distance", metric=metric, algorithm="brute")
    model.fit(train_x, train_y)
    probabilities = np.zeros((len(test_x), n_classes))
    probabilities[:, model.classes_] = model.predict_proba(test_x)
    return probabilities


def pixels_16(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes (N, h, w, P) -> area-averaged to 16 x 16, flat, in 0-255: (N, 256) gray of RGB, else (N, 256 P)."""
    rows: list[NDArray[np.float32]] = []
    for image in images:
        planes = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image
        rows.append(cv2.resize(planes.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel())
    return np.stack(rows)
