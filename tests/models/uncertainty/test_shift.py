import numpy as np
import pytest

from rsft.models.uncertainty.shift import MIN_CHIPS, SHIFT_LEVEL, ChipSummary, Difference, ShiftTest, compare_chips


def chips(rng, count, distance=0.0, predicted=(0.5, 0.3, 0.2)):
    classes = rng.choice(len(predicted), count, p=predicted)
    return ChipSummary(rng.normal(1 + distance, 0.2, count), rng.uniform(0.4, 1, count), classes)


def alike(distances):
    """Return chips that differ in their distances alone."""
    return ChipSummary(distances, np.ones(len(distances)), np.zeros(len(distances), int))


def test_chips_of_the_same_kind_fail_as_often_as_the_level_says():
    rng = np.random.default_rng(0)
    failures = [bool(compare_chips(chips(rng, 25), chips(rng, 60)).shifted) for _ in range(400)]
    assert np.mean(failures) <= 2.5 * SHIFT_LEVEL  # 4 are expected; more than 10 have a probability of 0.3 %


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
    first = ChipSummary(np.r_[np.zeros(6), np.ones(4)], np.ones(10), np.r_[np.zeros(7, int), np.ones(3, int)])
    other = ChipSummary(np.r_[np.zeros(2), np.ones(8)], np.ones(10), np.r_[np.zeros(2, int), np.ones(8, int)])
    result = compare_chips(first, other)
    assert result.distance.size == pytest.approx(0.4) and result.classes.size == pytest.approx(0.5)
    assert result.probability == Difference(0.0, 1.0)


def test_a_small_difference_of_many_chips_is_tolerated():
    rng = np.random.default_rng(2)
    result = compare_chips(alike(rng.normal(0.15, 1, 20_000)), alike(rng.normal(0, 1, 20_000)))
    assert result.distance.p < 1e-9 and result.distance.size < 0.1 and result.shifted == ()


@pytest.mark.parametrize("count", [0, 1, 5, MIN_CHIPS - 1])
def test_few_chips_are_not_compared(count):
    rng = np.random.default_rng(3)
    few, many = chips(rng, count), chips(rng, 50)
    assert compare_chips(few, many) == ShiftTest(reason="fewer than 10 chips with a distance")
    assert compare_chips(many, few).reason == f"the bundle has {count} validation chips, fewer than 10"


def test_constant_distances_do_not_differ():
    same = ChipSummary(np.ones(20), np.ones(20), np.zeros(20, int))
    result = compare_chips(same, ChipSummary(np.ones(40) + 1e-6, np.ones(40), np.zeros(40, int)))
    assert result.shifted == () and all(x == (0.0, 1.0) for x in result.differences.values())
    assert compare_chips(same, alike(np.full(40, 2.0))).shifted == ("distance",)


def test_chips_without_a_distance_are_left_out():
    rng = np.random.default_rng(4)
    distances = rng.normal(size=30)
    with_nan, other = alike(np.r_[distances, np.full(5, np.nan)]), alike(rng.normal(size=40))
    assert compare_chips(with_nan, other) == compare_chips(alike(distances), other)
    assert "fewer than 10" in compare_chips(alike(np.full(30, np.nan)), other).reason
    assert compare_chips(alike(np.full(30, np.inf)), other).shifted == ("distance",)


def test_a_class_that_the_validation_chips_do_not_have():
    rng = np.random.default_rng(5)
    ones, zeros = np.ones(20, int), np.zeros(30, int)
    result = compare_chips(
        ChipSummary(rng.normal(size=20), np.ones(20), ones), ChipSummary(rng.normal(size=30), np.ones(30), zeros)
    )
    assert result.classes.size == 1 and result.shifted == ("classes",)


def test_rare_classes_are_pooled():
    predicted = np.repeat(np.arange(12), 2)  # 2 chips of every class: no class could be tested alone
    summary = ChipSummary(np.arange(24.0), np.ones(24), predicted)
    assert compare_chips(summary, summary).classes == Difference(0.0, 1.0)
