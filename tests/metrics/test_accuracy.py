import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hmean
from sklearn import config_context
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import multiclass_calibration_error

from rsft.metrics.accuracy import expected_calibration_error, summarize_accuracy

GROUPS = {"head": [0], "medium": [1], "tail": [2, 3]}


def random_case(seed, n_classes=4, count=200, missing=()):
    rng = np.random.default_rng(seed)
    labels = rng.choice([c for c in range(n_classes) if c not in missing], count)
    probabilities = rng.dirichlet(np.ones(n_classes), count)
    return probabilities, labels


label = st.integers(0, 3)


@pytest.mark.slow
@given(st.lists(st.tuples(label, label), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_agrees_with_scikit_learn_with_and_without_absent_classes(pairs):
    labels, predictions = np.array(pairs).T
    summary = summarize_accuracy(predictions, labels, 4, GROUPS, resamples=1)
    with config_context(skip_parameter_validation=True):
        expected = precision_recall_fscore_support(
            labels, predictions, labels=range(4), zero_division=0
        )
    precision, recall, f1, truth = expected
    present = truth > 0
    predicted = np.isin(range(4), predictions)
    assert summary.micro.value == pytest.approx(accuracy_score(labels, predictions))
    # balanced_accuracy_score
    assert summary.macro.value == pytest.approx(recall[present].mean())
    # f1_score(average="macro")
    assert summary.macro_f1.value == pytest.approx(f1[present | predicted].mean())
    for name, values, defined in (
        ("recall", recall, present),
        ("precision", precision, predicted),
    ):
        assert getattr(summary, name) == pytest.approx(
            [v if k else None for v, k in zip(values, defined, strict=True)]
        )
    assert summary.absent == np.flatnonzero(~present).tolist()
    assert summary.worst[1] == pytest.approx(recall[present].min())
    assert summary.harmonic == pytest.approx(hmean(recall[present]))
    for group, indices in GROUPS.items():
        members = recall[indices][present[indices]]
        interval = getattr(summary, group)
        assert (interval and interval.value) == (
            pytest.approx(members.mean()) if len(members) else None
        )


@given(st.lists(st.tuples(label, label), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_group_is_the_mean_recall_of_its_present_classes(pairs):
    labels, predictions = np.array(pairs).T
    summary = summarize_accuracy(predictions, labels, 4, GROUPS, resamples=3)
    means = []
    for name, indices in GROUPS.items():
        recall = [
            summary.recall[index]
            for index in indices
            if summary.recall[index] is not None
        ]
        group = getattr(summary, name)
        assert (group.value if group else None) == (
            pytest.approx(np.mean(recall)) if recall else None
        )
        means += [group.value] if group else []
    assert summary.avg.value == pytest.approx(np.mean(means))


def test_absent_class_does_not_change_its_group():
    labels = np.array([0, 0, 2, 3])  # class 1, the whole medium group, has no test chip
    summary = summarize_accuracy(np.array([0, 0, 2, 0]), labels, 4, GROUPS)
    assert (
        summary.head.value,
        summary.medium,
        summary.tail.value,
        summary.avg.value,
    ) == (1.0, None, 0.5, 0.75)
    assert summary.recall == [1.0, None, 1.0, 0.0]
    assert summary.worst == (3, 0.0) and summary.harmonic == 0.0


def test_harmonic_mean_and_worst_class():
    summary = summarize_accuracy(
        np.array([0, 0, 1, 0]), np.array([0, 0, 1, 1]), 2, {"head": [0], "tail": [1]}
    )
    assert summary.harmonic == pytest.approx(2 / 3)
    assert summary.worst == (1, 0.5)


def test_without_groups_avg_is_missing():
    summary = summarize_accuracy(np.array([0, 1]), np.array([0, 1]), 2, {})
    assert (summary.avg, summary.head) == (None, None)


def test_intervals_contain_their_value_and_depend_on_the_seed_only():
    probabilities, labels = random_case(0, missing=(1,))
    first = summarize_accuracy(probabilities, labels, 4, GROUPS, seed=1)
    second = summarize_accuracy(probabilities, labels, 4, GROUPS, seed=1)
    other = summarize_accuracy(probabilities, labels, 4, GROUPS, seed=2)
    assert first == second != other
    for name in ("micro", "macro", "macro_f1", "avg", "head", "tail"):
        spread = getattr(first, name)
        assert spread.low < spread.value < spread.high


@pytest.mark.slow
def test_interval_equals_that_of_resampled_chips():
    probabilities, labels = random_case(3)
    predictions = probabilities.argmax(axis=1)
    rng = np.random.default_rng(0)
    by_class = [np.flatnonzero(labels == index) for index in range(4)]
    drawn = [
        np.concatenate([rng.choice(chips, len(chips)) for chips in by_class])
        for _ in range(1000)
    ]
    with config_context(skip_parameter_validation=True):
        scores = [
            f1_score(labels[chips], predictions[chips], average="macro")
            for chips in drawn
        ]
    spread = summarize_accuracy(
        probabilities, labels, 4, GROUPS, resamples=4000
    ).macro_f1
    assert (spread.low, spread.high) == pytest.approx(
        tuple(np.quantile(scores, [0.025, 0.975])), abs=0.01
    )


def test_dictionary_for_metrics_json():
    summary = summarize_accuracy(
        np.array([0, 0]), np.array([0, 1]), 3, {"head": [0], "tail": [1, 2]}
    )
    expected = {
        "head": {"value": 1.0, "low": 1.0, "high": 1.0},
        "medium": None,
        "absent": ["c"],
        "ece": None,
    }
    expected |= {
        "worst": {"class": "b", "value": 0.0},
        "recall": [1.0, 0.0, None],
        "precision": [0.5, None, None],
    }
    assert expected.items() <= summary.to_dict(["a", "b", "c"]).items()


@pytest.mark.parametrize(
    ("outputs", "labels", "reason"),
    [
        ([], [], "N > 0"),
        ([0, 1, 1], [0, 1], "shape"),
        ([[0.5, 0.2]], [0], "sum to 1"),
        ([[np.nan, 1.0]], [0], "sum to 1"),
    ],
)
def test_invalid_input_raises(outputs, labels, reason):
    with pytest.raises(ValueError, match=reason):
        summarize_accuracy(np.array(outputs), np.array(labels), 2, {})


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_torchmetrics(seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(5, 0.3), 300)
    labels = rng.integers(0, 5, 300)
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), 5, n_bins=15
    )
    assert expected_calibration_error(probabilities, labels) == pytest.approx(
        float(expected), abs=1e-6
    )


def test_error_is_0_if_certain_and_correct_and_1_if_certain_and_wrong():
    sure = np.eye(3)
    assert expected_calibration_error(sure, np.arange(3)) == 0.0
    assert expected_calibration_error(sure, np.array([1, 2, 0])) == 1.0


@pytest.mark.parametrize("absent", [(), (1,), (0, 3)])
def test_scores_agree_with_scikit_learn(absent):
    probabilities, labels = random_case(len(absent), 5, missing=absent)
    summary = summarize_accuracy(probabilities, labels, 5, {})
    weights = (1 / np.bincount(labels, minlength=5).clip(1))[labels]
    assert summary.top2.value == pytest.approx(
        top_k_accuracy_score(labels, probabilities, k=2, labels=range(5))
    )
    expected = log_loss(labels, probabilities, sample_weight=weights, labels=range(5))
    assert summary.log_loss.value == pytest.approx(expected)
    for interval in (summary.top2, summary.log_loss):
        assert interval.low < interval.value < interval.high


def test_equal_probabilities_go_to_the_lower_index_as_in_argmax():
    summary = summarize_accuracy(np.full((3, 3), 1 / 3), np.array([0, 1, 2]), 3, {})
    assert (summary.micro.value, summary.top2.value) == pytest.approx((1 / 3, 2 / 3))


def test_probability_0_of_the_true_class_gives_a_finite_score():
    summary = summarize_accuracy(np.array([[1.0, 0.0]]), np.array([1]), 2, {})
    assert summary.log_loss.value == pytest.approx(36.04, abs=0.01)


def test_predictions_without_probabilities_have_no_scores():
    summary = summarize_accuracy(np.array([0, 1]), np.array([0, 1]), 2, {})
    assert (summary.top2, summary.log_loss, summary.ece) == (None, None, None)
