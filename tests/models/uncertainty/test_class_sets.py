"""Weighted thresholds, and the likelihood ratios that give the weights."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from rsft.models.uncertainty.class_sets import (
    class_thresholds,
    likelihood_ratios,
    weighted_thresholds,
)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_equal_weights_give_the_plain_thresholds(coverage):
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=60)
    labels = np.repeat([0, 1, 2], [39, 9, 12])
    thresholds = weighted_thresholds(
        scores, labels, np.ones(60), np.ones(2), 4, coverage
    )
    assert thresholds.shape == (2, 4)
    assert (thresholds == class_thresholds(scores, labels, 4, coverage)).all()


def test_weights_move_the_threshold():
    scores = np.arange(10.0)
    labels = np.zeros(10, int)
    heavy_end = np.r_[np.ones(9), 90.0]
    heavy_start = np.r_[90.0, np.ones(9)]
    assert weighted_thresholds(scores, labels, heavy_end, np.ones(1), 1, 0.8) == 9
    assert weighted_thresholds(scores, labels, heavy_start, np.ones(1), 1, 0.8) == 0
    # A chip that weighs more than all validation chips together cannot be compared with
    # them.
    assert weighted_thresholds(
        scores, labels, np.ones(10), np.array([1.0, 100.0]), 1, 0.8
    ).tolist() == [[8], [np.inf]]


def test_ratios_of_two_normal_distributions():
    rng = np.random.default_rng(1)
    old = rng.normal(0, 1, (2000, 1))
    new = rng.normal(0.5, 1, (2000, 1))
    weights, new_weights = likelihood_ratios(old, new)
    assert np.log(weights) == pytest.approx(0.5 * old[:, 0] - 0.125, abs=0.12)
    assert np.log(new_weights) == pytest.approx(0.5 * new[:, 0] - 0.125, abs=0.15)
    assert weights.mean() == pytest.approx(1, abs=0.05)


def test_equal_chips_have_the_ratio_one():
    features = np.random.default_rng(2).normal(size=(30, 3))
    weights, new_weights = likelihood_ratios(
        features, np.concatenate([features, features])
    )
    assert weights == pytest.approx(1, abs=1e-3) and new_weights == pytest.approx(
        1, abs=1e-3
    )


def test_constant_features_have_no_influence():
    weights, new_weights = likelihood_ratios(np.ones((12, 2)), np.ones((30, 2)))
    assert weights == pytest.approx(1, abs=1e-3) and new_weights == pytest.approx(
        1, abs=1e-3
    )


def test_many_chips_are_sampled():
    rng = np.random.default_rng(3)
    weights, new_weights = likelihood_ratios(
        rng.normal(size=(100, 2)), rng.normal(size=(30_000, 2))
    )
    assert len(new_weights) == 30_000 and np.median(weights) == pytest.approx(
        1, abs=0.3
    )


@pytest.mark.parametrize("offset", [0.0, 0.5, 20.0])
def test_the_regression_is_that_of_scikit_learn(offset):
    rng = np.random.default_rng(4)
    old = rng.normal(size=(40, 3))
    new = rng.normal(offset, 1, (90, 3))
    rows = np.concatenate([old, new])
    rows = (rows - rows.mean(0)) / rows.std(0)
    model = LogisticRegression(C=0.1, tol=1e-10, max_iter=1000).fit(
        rows, np.repeat([0, 1], [40, 90])
    )
    expected = np.exp(model.decision_function(rows) + np.log(40 / 90))
    assert np.concatenate(likelihood_ratios(old, new)) == pytest.approx(
        expected, rel=1e-5
    )
