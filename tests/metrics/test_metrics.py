from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, hmean
from sklearn import config_context
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import multiclass_calibration_error

from rsft.metrics import (
    NORMAL_APPROXIMATION_MIN,
    Interval,
    class_mean_distances,
    compare_predictions,
    coverage_by_class,
    coverage_by_group,
    distance_by_group,
    expected_calibration_error,
    holm_adjust,
    resampled_means,
    summarize_accuracy,
)

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
    ("outputs", "labels", "groups", "reason"),
    [
        ([], [], {}, "N > 0"),
        ([0, 1, 1], [0, 1], {}, "shape"),
        ([[0.5, 0.2]], [0], {}, "sum to 1"),
        ([[np.nan, 1.0]], [0], {}, "sum to 1"),
        ([0], [2], {}, "0-1"),
        ([0], [-1], {}, "0-1"),
        ([0], [0], {"head": [2]}, "0-1"),
        ([0], [0], {"head": [0], "tail": [0]}, "two groups"),
        ([0], [0], {"heads": [0]}, "heads"),
    ],
)
def test_invalid_input_raises(outputs, labels, groups, reason):
    with pytest.raises(ValueError, match=reason):
        summarize_accuracy(np.array(outputs), np.array(labels), 2, groups)


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


PAIRED_GROUPS = {"head": [0, 1], "tail": [2, 3]}


def two(seed, count=400):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 3], count, p=[0.6, 0.3, 0.1])  # class 2 is absent
    right = rng.random((2, count)) < [[0.8], [0.7]]
    first, second = np.where(right, labels, (labels + 1) % 4)
    return first, second, labels


def test_differences_equal_those_of_the_summaries():
    first, second, labels = two(0)
    differences = compare_predictions(first, second, labels, PAIRED_GROUPS).differences
    summaries = [
        summarize_accuracy(predicted, labels, 4, PAIRED_GROUPS)
        for predicted in (first, second)
    ]
    assert set(differences) == {"micro", "macro", "avg", "head", "tail"}
    for name, difference in differences.items():
        values = [getattr(summary, name).value for summary in summaries]
        assert difference.value == pytest.approx(values[0] - values[1])
        assert difference.low < difference.value < difference.high


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 500)
    first = np.where(rng.random(500) < 0.7, labels, 1 - labels)
    second = np.where(rng.random(500) < 0.98, first, labels)
    paired = compare_predictions(first, second, labels, {}).differences["micro"]
    alone = summarize_accuracy(first, labels, 2, {}).micro
    assert paired.high - paired.low < (alone.high - alone.low) / 3


def test_paired_interval_equals_that_of_resampled_chips():
    first, second, labels = two(2)
    rng = np.random.default_rng(0)
    by_class = [np.flatnonzero(labels == index) for index in (0, 1, 3)]
    gain = (first == labels).astype(float) - (second == labels)
    gains = [
        np.mean(
            [gain[rng.choice(members, len(members))].mean() for members in by_class]
        )
        for _ in range(3000)
    ]
    spread = compare_predictions(
        first, second, labels, PAIRED_GROUPS, resamples=4000
    ).differences["macro"]
    assert (spread.low, spread.high) == pytest.approx(
        tuple(np.quantile(gains, [0.025, 0.975])), abs=0.008
    )


def test_mcnemar():
    first, second, labels = two(3)
    tests = compare_predictions(first, second, labels, PAIRED_GROUPS).mcnemar
    b = ((first == labels) & (second != labels)).sum()
    c = ((first != labels) & (second == labels)).sum()
    assert (tests["all"].first, tests["all"].second) == (b, c)
    assert tests["all"].p == pytest.approx(binomtest(b, b + c).pvalue)
    assert tests["head"].first + tests["tail"].first == b


def test_run_compared_with_itself():
    first, _, labels = two(4)
    comparison = compare_predictions(first, first, labels, PAIRED_GROUPS)
    assert asdict(comparison.mcnemar["all"]) == {"first": 0, "second": 0, "p": 1.0}
    assert comparison.differences["macro"] == Interval(0, 0, 0)


@pytest.mark.parametrize(("first", "labels"), [([0], [0, 1]), ([], [])])
def test_invalid_pairs_raise(first, labels):
    with pytest.raises(ValueError, match="same chips"):
        compare_predictions(
            np.array(first, int), np.array(first, int), np.array(labels, int), {}
        )


def test_holm():
    assert holm_adjust([0.01, 0.5, 0.03]) == pytest.approx([0.03, 0.5, 0.06])
    # never below that of a smaller p-value
    assert holm_adjust([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm_adjust([0.9, 0.8]) == [1.0, 1.0] and holm_adjust([]) == []


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


@pytest.mark.parametrize("count", [50, NORMAL_APPROXIMATION_MIN + 1])
def test_standard_error_matches_theory(count):
    rng = np.random.default_rng(0)
    values = rng.exponential(size=count)
    means = resampled_means(values, 4000, rng)
    assert means.mean() == pytest.approx(values.mean(), rel=0.02)
    assert means.std() == pytest.approx(values.std() / np.sqrt(count), rel=0.05)


def test_cosine_distance_of_right_angles_opposites_and_lengths():
    features = np.array([[5.0, 0.0], [0.1, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    distances = class_mean_distances(features, np.array([0, 0, 1, 2]), 4)
    assert distances[:3] == pytest.approx([1.5, 1.0, 1.5])
    assert np.isnan(distances[3])


def test_groups_by_index():
    means = distance_by_group(
        np.array([0.5, np.nan, 0.7, np.nan]),
        {"head": [0], "medium": [1], "tail": [2, 3]},
    )
    assert means == {
        "all": pytest.approx(0.6),
        "head": 0.5,
        "medium": None,
        "tail": 0.7,
    }


def test_single_class_has_no_distance():
    distances = class_mean_distances(np.ones((3, 2)), np.zeros(3, int), 2)
    assert np.isnan(distances).all() and distance_by_group(distances, {})["all"] is None


SETS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1]], bool)


def test_coverage_and_size_by_group():
    coverage = coverage_by_group(
        SETS, np.array([0, 0, 0, 2]), {"head": [0], "medium": [1], "tail": [2]}
    )
    assert (coverage["all"].value, coverage["all"].size, coverage["all"].single) == (
        0.75,
        7 / 4,
        0.5,
    )
    assert (
        coverage["head"].value == pytest.approx(2 / 3) and coverage["head"].chips == 3
    )
    assert coverage["medium"] is None
    assert (coverage["tail"].value, coverage["tail"].size) == (1.0, 3.0)
    # Clopper and Pearson: (alpha / 2)^(1 / n)
    assert coverage["tail"].low == pytest.approx(0.025)


def test_absent_class_has_no_coverage():
    assert coverage_by_class(SETS, np.array([0, 0, 0, 2])) == [
        pytest.approx(2 / 3),
        None,
        1.0,
    ]


def test_share_of_sets_with_one_class():
    sets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], bool)
    assert coverage_by_group(sets, np.array([0, 1, 2, 0]), {})["all"].single == 0.75
