"""Distances from references, and the limit for unlike chips: its rate on new chips,
with few and many validation chips, over many seeds."""

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from rsft.models.uncertainty.distances import (
    chance_of_ood_chips,
    expected_share,
    largest_chance_share,
    mahalanobis_distance,
    nearest_distance,
    ood_limit,
)


def test_the_distance_is_that_of_the_nearest_reference_in_deviations():
    """The second feature has ten times the deviation of the first."""
    references = np.array([[0.0, 0.0], [4.0, 0.0], [np.nan, 1.0]])
    whitening = np.diag([1.0, 0.1])
    features = np.array([[1.0, 0.0], [4.0, 20.0], [0.0, 10.0]])
    assert mahalanobis_distance(features, references, whitening) == pytest.approx(
        [1.0, 2.0, 1.0]
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


def test_the_nearest_of_several_references():
    rows = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    references = np.array([[0.0, 0.0], [3.0, 5.0]])
    distances = nearest_distance(rows, references)
    assert distances.tolist() == pytest.approx([0, 1, 2**0.5])
