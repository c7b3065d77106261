"""The closed forms are compared with fits that leave each chip out."""

import numpy as np
import pytest
from scipy.special import log_softmax

from rsft.training.init.discriminant import (
    SHRINKAGES,
    ChipStatistics,
    fit_discriminant,
)


def clusters(chips=(9, 4, 2, 1), width=6):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(chips)), chips)
    spread = rng.normal(size=(width, width))
    features = 3 * np.eye(len(chips), width)[labels]
    return features + rng.normal(size=(len(labels), width)) @ spread, labels


def logits_without_chip(features, labels, index, shrinkage):
    """Return the logits of a chip by the other ones, with the diagonal and the degrees
    of freedom of all chips."""
    n_classes = labels.max() + 1

    def scatter(features, labels):
        deviations = features.copy()
        for label in np.unique(labels):
            deviations[labels == label] -= features[labels == label].mean(axis=0)
        return deviations.T @ deviations

    freedom = len(labels) - n_classes
    diagonal = np.diag(np.diagonal(scatter(features, labels)))
    others = np.arange(len(labels)) != index
    covariance = (1 - shrinkage) * scatter(features[others], labels[others])
    inverse = np.linalg.inv((covariance + shrinkage * diagonal) / freedom)
    logits = np.full(n_classes, -np.inf)
    for label in np.unique(labels[others]):
        members = others & (labels == label)
        difference = features[index] - features[members].mean(axis=0)
        logits[label] = -difference @ inverse @ difference / 2
    return logits


@pytest.mark.parametrize("shrinkage", [0.05, 0.3, 1.0])
def test_leaving_out_in_closed_form_is_fitting_again(shrinkage):
    features, labels = clusters()
    means = []
    for label in range(3):  # the last class has one chip
        scores = [
            log_softmax(logits_without_chip(features, labels, index, shrinkage))[label]
            for index in np.flatnonzero(labels == label)
        ]
        means.append(np.mean(scores))
    scores = ChipStatistics(features, labels, 4).held_out_scores([shrinkage])
    assert scores == pytest.approx([np.mean(means)])


def test_a_chip_is_predicted_from_all_others():
    features, labels = clusters()
    predicted = ChipStatistics(features, labels, 4).predict_held_out(0.3)
    expected = [
        logits_without_chip(features, labels, index, 0.3).argmax()
        for index in range(len(labels))
    ]
    assert predicted.tolist() == expected
    assert predicted[-1] != labels[-1]  # the only chip of its class


def test_the_best_shrinkage_is_taken_and_classes_are_equally_likely():
    features, labels = clusters((40, 30, 3))
    discriminant = fit_discriminant(features, labels, 4)
    scores = ChipStatistics(features, labels, 4).held_out_scores(SHRINKAGES)
    assert discriminant.shrinkage == SHRINKAGES[scores.argmax()]
    logits = features @ discriminant.weight.T + discriminant.bias
    assert (logits.argmax(axis=1) == labels).mean() > 0.9
    assert np.isneginf(logits[:, 3]).all()  # a class without chips
    means = np.stack([features[labels == label].mean(axis=0) for label in (0, 2)])
    middle = means.mean(axis=0) @ discriminant.weight.T + discriminant.bias
    assert middle[0] == pytest.approx(middle[2])  # 40 chips against 3


def test_one_chip_per_class():
    features, labels = clusters((1, 1, 1))
    features[:, 0] = 7  # tells nothing
    discriminant = fit_discriminant(features, labels, 3)
    assert discriminant.shrinkage == 1
    logits = features @ discriminant.weight.T + discriminant.bias
    assert logits.argmax(axis=1).tolist() == [0, 1, 2]


def test_equal_chips_within_classes():
    features, labels = clusters((1, 1, 1))
    twice = np.concatenate([features, features])
    discriminant = fit_discriminant(twice, np.concatenate([labels, labels]), 3)
    logits = features @ discriminant.weight.T + discriminant.bias
    assert logits.argmax(axis=1).tolist() == [0, 1, 2]
