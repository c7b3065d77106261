"""Two-sample tests of new chips against the validation chips."""

import numpy as np
import pytest
from scipy import stats

from rsft.models.uncertainty.shift import (
    MIN_CHIPS,
    SHIFT_LEVEL,
    ChipSummary,
    Difference,
    ShiftTest,
    chi_squared,
    chi_squared_tail,
    compare_chips,
    kolmogorov_smirnov,
)


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
def test_the_probability_is_near_the_exact_one_where_it_decides(n, m, offset):
    rng = np.random.default_rng(n + m)
    values = rng.normal(size=n)
    others = rng.normal(offset, size=m)
    expected = stats.ks_2samp(values, others, method="exact")
    statistic, p = kolmogorov_smirnov(values, others)
    assert statistic == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=0.12)
    assert (p < SHIFT_LEVEL / 3) == (expected.pvalue < SHIFT_LEVEL / 3)


def test_ties_and_equal_samples():
    values = np.repeat([1.0, 2.0, 3.0], [5, 3, 4])
    others = np.repeat([1.0, 2.0, 4.0], [2, 6, 3])
    expected = stats.ks_2samp(values, others, method="exact")
    statistic, p = kolmogorov_smirnov(values, others)
    assert statistic == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, abs=0.12)
    assert kolmogorov_smirnov(values, values) == (0.0, 1.0)


@pytest.mark.parametrize("offset", [0.0, 0.03, 0.1])
def test_large_samples_are_near_the_exact_probability(offset):
    rng = np.random.default_rng(3)
    values = rng.normal(size=900)
    others = rng.normal(offset, size=1000)
    exact = stats.ks_2samp(values, others, method="exact")
    p = kolmogorov_smirnov(values, others)[1]
    assert p == pytest.approx(exact.pvalue, rel=0.1, abs=1e-4)
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
