from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import binomtest

from rsft.metrics.accuracy import summarize_accuracy
from rsft.metrics.comparison import compare_predictions, holm_adjust
from rsft.metrics.intervals import Interval

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
