"""The temperature that calibrates probabilities."""

import numpy as np
import pytest

from rsft.models.uncertainty.temperature import (
    fit_temperature,
    log_softmax,
    lower_probabilities,
)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_recovered(temperature):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 4000)
    # the softmax of strength * features is the posterior of equally likely classes
    strength = 1.5
    features = rng.normal(size=(len(labels), 4)) + strength * np.eye(4)[labels]
    logits = temperature * strength * features
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.1)


@pytest.mark.parametrize("count", [3, 30, 300])
def test_all_correct_chips_do_not_give_certainty(count):
    labels = np.arange(count) % 3
    logits = 10 * np.eye(3)[labels]
    sure = np.exp(log_softmax(logits, fit_temperature(logits, labels)))[0, 0]
    assert sure == pytest.approx((count + 1) / (count + 2), abs=1e-3)


def test_all_wrong_logits_have_a_temperature():
    assert fit_temperature(10 * np.eye(3), np.array([1, 2, 0])) == pytest.approx(
        20, rel=0.01
    )
    assert np.isfinite(log_softmax(np.array([[1e4, -1e4]]), 0.05)).all()


@pytest.mark.parametrize("accuracy", [0.95, 0.7, 0.4, 0.1])
def test_probabilities_are_lowered_to_an_accuracy_and_never_raised(accuracy):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([0.2] * 4, 50)
    lowered = lower_probabilities(probabilities, accuracy)
    np.testing.assert_allclose(lowered.sum(axis=1), 1)
    assert (lowered.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    before = probabilities.max(axis=1).mean()
    after = lowered.max(axis=1).mean()
    if accuracy > before:
        np.testing.assert_allclose(lowered, probabilities, atol=1e-8)
    elif accuracy > 0.25:
        assert after == pytest.approx(accuracy, abs=1e-4)
    else:  # the largest of four probabilities is at least a quarter
        assert 0.25 < after < 0.3
