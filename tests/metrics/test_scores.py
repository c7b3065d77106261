import numpy as np
import pytest
from sklearn.metrics import log_loss, top_k_accuracy_score

from rsft.metrics.accuracy import summarize_accuracy
from rsft.metrics.bootstrap import NORMAL_APPROXIMATION_MIN, resampled_means


def case(seed, absent=()):
    rng = np.random.default_rng(seed)
    labels = rng.choice([c for c in range(5) if c not in absent], 200)
    return rng.dirichlet(np.ones(5), 200), labels


@pytest.mark.parametrize("absent", [(), (1,), (0, 3)])
def test_scores_agree_with_scikit_learn(absent):
    probabilities, labels = case(len(absent), absent)
    summary = summarize_accuracy(probabilities, labels, 5, {})
    weights = (1 / np.bincount(labels, minlength=5).clip(1))[labels]
    assert summary.top2.value == pytest.approx(top_k_accuracy_score(labels, probabilities, k=2, labels=range(5)))
    assert summary.log_loss.value == pytest.approx(
        log_loss(labels, probabilities, sample_weight=weights, labels=range(5))
    )
    for interval in (summary.top2, summary.log_loss):
        assert interval.low < interval.value < interval.high


def test_equal_probabilities_go_to_the_lower_index_as_in_argmax():
    summary = summarize_accuracy(np.full((3, 3), 1 / 3), np.array([0, 1, 2]), 3, {})
    assert (summary.micro.value, summary.top2.value) == pytest.approx((1 / 3, 2 / 3))


def test_probability_0_of_the_true_class_gives_a_finite_score():
    assert summarize_accuracy(np.array([[1.0, 0.0]]), np.array([1]), 2, {}).log_loss.value == pytest.approx(
        36.04, abs=0.01
    )


def test_predictions_without_probabilities_have_no_scores():
    summary = summarize_accuracy(np.array([0, 1]), np.array([0, 1]), 2, {})
    assert (summary.top2, summary.log_loss, summary.ece) == (None, None, None)


@pytest.mark.parametrize("count", [50, NORMAL_APPROXIMATION_MIN + 1])
def test_standard_error_matches_theory(count):
    rng = np.random.default_rng(0)
    values = rng.exponential(size=count)
    means = resampled_means(values, 4000, rng)
    assert means.mean() == pytest.approx(values.mean(), rel=0.02)
    assert means.std() == pytest.approx(values.std() / np.sqrt(count), rel=0.05)
