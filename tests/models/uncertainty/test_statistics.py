"""The limit for unlike chips: its rate on new chips, with few and many validation
chips, over many seeds."""

import numpy as np
import pytest
from scipy import stats
from scipy.stats import betabinom, binom
from sklearn.linear_model import LogisticRegression

from rsft.models.uncertainty import statistics
from rsft.models.uncertainty.statistics import (
    MIN_CHIPS,
    SHIFT_LEVEL,
    ChipSummary,
    Difference,
    ShiftTest,
    chance_of_ood_chips,
    chi_squared,
    chi_squared_tail,
    class_thresholds,
    compare_chips,
    expected_share,
    kolmogorov_smirnov,
    largest_chance_share,
    likelihood_ratios,
    ood_limit,
    weighted_thresholds,
)


@pytest.mark.parametrize(
    ("count", "rank", "share"),
    [
        (1, 1, 1 / 2),
        (9, 9, 1 / 10),
        (19, 19, 1 / 20),
        (60, 58, 3 / 61),
        (999, 950, 0.05),
    ],
)
def test_the_limit_is_a_distance_of_a_validation_chip(count, rank, share):
    distances = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert ood_limit(distances, 0.05) == rank
    assert expected_share(count, 0.05) == pytest.approx(share)


def test_equal_distances_have_a_limit_above_zero():
    assert ood_limit(np.zeros(30), 0.05) == 1e-12


@pytest.mark.parametrize("count", [20, 60, 400])
def test_the_share_of_unlike_chips_is_the_expected_one_over_seeds(count):
    shares = []
    warnings = []
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        limit = ood_limit(rng.gamma(8, size=count), 0.05)
        unlike = int((rng.gamma(8, size=200) > limit).sum())
        shares.append(unlike / 200)
        warnings.append(chance_of_ood_chips(unlike, 200, count, 0.05) < 0.01)
    assert np.mean(shares) == pytest.approx(
        expected_share(count, 0.05), abs=4 * np.std(shares) / np.sqrt(2000)
    )
    assert sum(warnings) <= binom.ppf(0.999, 2000, 0.01)


def test_chance_of_ood_chips_is_that_of_a_known_rate_with_many_validation_chips():
    assert chance_of_ood_chips(20, 200, 10**6, 0.05) == pytest.approx(
        binom.sf(19, 200, 0.05), rel=0.01
    )
    assert chance_of_ood_chips(20, 200, 60, 0.05) > 25 * binom.sf(19, 200, 0.05)
    assert (
        chance_of_ood_chips(0, 5, 60, 0.05) == 1 == chance_of_ood_chips(0, 0, 60, 0.05)
    )


@pytest.mark.parametrize(
    ("unlike", "chips", "validation_chips"),
    [(1, 5, 60), (3, 40, 19), (900, 20_000, 400), (7, 7, 9)],
)
def test_chance_of_ood_chips_is_beta_binomial(unlike, chips, validation_chips):
    rank = int(ood_limit(np.arange(1.0, validation_chips + 1), 0.05))
    expected = betabinom.sf(unlike - 1, chips, validation_chips + 1 - rank, rank)
    assert chance_of_ood_chips(unlike, chips, validation_chips, 0.05) == pytest.approx(
        expected, rel=1e-6
    )


@pytest.mark.parametrize(
    ("chips", "validation_chips"), [(1, 60), (200, 60), (200, 600), (12, 9)]
)
def test_a_larger_share_than_the_largest_one_is_not_explained_by_chance(
    chips, validation_chips
):
    largest = round(chips * largest_chance_share(chips, validation_chips, 0.05, 0.01))
    assert chance_of_ood_chips(largest, chips, validation_chips, 0.05) >= 0.01
    assert (
        largest == chips
        or chance_of_ood_chips(largest + 1, chips, validation_chips, 0.05) < 0.01
    )
    assert (
        largest_chance_share(200, 60, 0.05, 0.01)
        > largest_chance_share(200, 600, 0.05, 0.01)
        > 0.05
    )
    assert largest_chance_share(0, 60, 0.05, 0.01) == 0


def chips(rng, count, distance=0.0, predicted=(0.5, 0.3, 0.2)):
    classes = rng.choice(len(predicted), count, p=predicted)
    return ChipSummary(
        rng.normal(1 + distance, 0.2, count), rng.uniform(0.4, 1, count), classes
    )


def alike(distances):
    """Return chips that differ in their distances alone."""
    return ChipSummary(
        distances, np.ones(len(distances)), np.zeros(len(distances), int)
    )


def test_chips_of_the_same_kind_fail_as_often_as_the_level_says():
    rng = np.random.default_rng(0)
    failures = [
        bool(compare_chips(chips(rng, 25), chips(rng, 60)).shifted) for _ in range(400)
    ]
    # 4 are expected; more than 10 have a probability of 0.3 %
    assert np.mean(failures) <= 2.5 * SHIFT_LEVEL


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"distance": 0.4}, "distance"), ({"predicted": (0.1, 0.1, 0.8)}, "classes")],
)
def test_different_chips_are_found(changes, name):
    rng = np.random.default_rng(1)
    result = compare_chips(chips(rng, 60, **changes), chips(rng, 80))
    assert result.shifted == (name,) and result.reason == ""
    assert result.differences[name].size > 0.4 and result.differences[name].p < 1e-4


def test_the_difference_is_that_of_the_distribution_functions_and_of_the_shares():
    first = ChipSummary(
        np.r_[np.zeros(6), np.ones(4)],
        np.ones(10),
        np.r_[np.zeros(7, int), np.ones(3, int)],
    )
    other = ChipSummary(
        np.r_[np.zeros(2), np.ones(8)],
        np.ones(10),
        np.r_[np.zeros(2, int), np.ones(8, int)],
    )
    result = compare_chips(first, other)
    sizes = {name: difference.size for name, difference in result.differences.items()}
    assert sizes == pytest.approx({"distance": 0.4, "probability": 0.0, "classes": 0.5})
    assert result.differences["probability"].p == 1.0


def test_a_small_difference_of_many_chips_is_tolerated():
    rng = np.random.default_rng(2)
    result = compare_chips(
        alike(rng.normal(0.15, 1, 20_000)), alike(rng.normal(0, 1, 20_000))
    )
    distance = result.differences["distance"]
    assert distance.p < 1e-9 and distance.size < 0.1 and result.shifted == ()


@pytest.mark.parametrize("count", [0, 1, 5, MIN_CHIPS - 1])
def test_few_chips_are_not_compared(count):
    rng = np.random.default_rng(3)
    few = chips(rng, count)
    many = chips(rng, 50)
    assert compare_chips(few, many) == ShiftTest(
        reason="fewer than 10 chips with a distance"
    )
    assert (
        compare_chips(many, few).reason
        == f"the bundle has {count} validation chips, fewer than 10"
    )


def test_constant_distances_do_not_differ():
    same = ChipSummary(np.ones(20), np.ones(20), np.zeros(20, int))
    result = compare_chips(
        same, ChipSummary(np.ones(40) + 1e-6, np.ones(40), np.zeros(40, int))
    )
    assert result.shifted == () and all(
        x == (0.0, 1.0) for x in result.differences.values()
    )
    assert compare_chips(same, alike(np.full(40, 2.0))).shifted == ("distance",)


def test_chips_without_a_distance_are_left_out():
    rng = np.random.default_rng(4)
    distances = rng.normal(size=30)
    with_nan = alike(np.r_[distances, np.full(5, np.nan)])
    other = alike(rng.normal(size=40))
    assert compare_chips(with_nan, other) == compare_chips(alike(distances), other)
    assert "fewer than 10" in compare_chips(alike(np.full(30, np.nan)), other).reason
    assert compare_chips(alike(np.full(30, np.inf)), other).shifted == ("distance",)


@pytest.mark.parametrize(("offset", "warnings"), [(-0.5, ()), (0.5, ("distance",))])
def test_a_smaller_distance_is_no_reason_for_doubt(offset, warnings):
    distances = np.linspace(1, 1.2, 30)
    result = compare_chips(alike(distances + offset), alike(distances))
    assert (
        result.shifted == ("distance",)
        and result.is_nearer == (offset < 0)
        and result.warnings == warnings
    )


def test_a_few_chips_far_away_make_near_ones_doubtful():
    distances = np.r_[np.full(20, 0.5), np.full(10, np.inf)]
    assert compare_chips(alike(distances), alike(np.linspace(1, 1.2, 30))).warnings == (
        "distance",
    )


def test_a_class_that_the_validation_chips_do_not_have():
    rng = np.random.default_rng(5)
    ones = np.ones(20, int)
    zeros = np.zeros(30, int)
    first = ChipSummary(rng.normal(size=20), np.ones(20), ones)
    result = compare_chips(first, ChipSummary(rng.normal(size=30), np.ones(30), zeros))
    assert result.differences["classes"].size == 1 and result.shifted == ("classes",)


def test_rare_classes_are_pooled():
    # 2 chips of every class: no class could be tested alone
    predicted = np.repeat(np.arange(12), 2)
    summary = ChipSummary(np.arange(24.0), np.ones(24), predicted)
    assert compare_chips(summary, summary).differences["classes"] == Difference(
        0.0, 1.0
    )


@pytest.mark.parametrize(("n", "m"), [(10, 10), (10, 37), (60, 60), (25, 400), (13, 1)])
@pytest.mark.parametrize("offset", [0.0, 0.3, 1.0])
def test_small_samples_have_the_exact_probability(n, m, offset):
    rng = np.random.default_rng(n + m)
    values = rng.normal(size=n)
    others = rng.normal(offset, size=m)
    expected = stats.ks_2samp(values, others, method="exact")
    pair = (expected.statistic, expected.pvalue)
    assert kolmogorov_smirnov(values, others) == pytest.approx(pair, rel=1e-6, abs=1e-9)


def test_ties_and_equal_samples():
    values = np.repeat([1.0, 2.0, 3.0], [5, 3, 4])
    others = np.repeat([1.0, 2.0, 4.0], [2, 6, 3])
    expected = stats.ks_2samp(values, others, method="exact")
    assert kolmogorov_smirnov(values, others) == pytest.approx(
        (expected.statistic, expected.pvalue)
    )
    assert kolmogorov_smirnov(values, values) == (0.0, 1.0)


@pytest.mark.parametrize("offset", [0.0, 0.03, 0.1])
def test_large_samples_are_near_the_exact_probability(monkeypatch, offset):
    rng = np.random.default_rng(3)
    values = rng.normal(size=900)
    others = rng.normal(offset, size=1000)
    exact = kolmogorov_smirnov(values, others)
    # the approximation of many chips, for few
    monkeypatch.setattr(statistics, "_MAX_EXACT", 0)
    assert kolmogorov_smirnov(values, others) == pytest.approx(exact, rel=0.1, abs=1e-4)
    assert kolmogorov_smirnov(np.zeros(50), np.ones(60))[1] < 1e-12


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (2, 6)])
def test_shares_are_compared_as_by_scipy(shape):
    for seed in range(5):
        counts = np.random.default_rng(seed).integers(1, 40, shape)
        assert chi_squared(counts) == pytest.approx(
            stats.chi2_contingency(counts).pvalue, rel=1e-9
        )


@pytest.mark.parametrize("degrees", [1, 2, 3, 8, 101])
@pytest.mark.parametrize("value", [0.0, 1e-6, 1.0, 30.0, 2000.0])
def test_the_tail_of_the_chi_squared_distribution(degrees, value):
    assert chi_squared_tail(value, degrees) == pytest.approx(
        stats.chi2.sf(value, degrees), rel=1e-9, abs=1e-300
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
