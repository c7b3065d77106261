"""Distances from references, and the limit for unlike chips: its rate on new chips,
with few and many validation chips, over many seeds."""

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from rsft.models.uncertainty.distances import (
    expected_share,
    largest_chance_count,
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
        warnings.append(unlike > largest_chance_count(200, count, 0.05, 0.01))
    assert np.mean(shares) == pytest.approx(
        expected_share(count, 0.05), abs=4 * np.std(shares) / np.sqrt(2000)
    )
    assert sum(warnings) <= binom.ppf(0.999, 2000, 0.01)


@pytest.mark.parametrize(
    ("chips", "validation_chips"), [(1, 60), (200, 60), (20_000, 400), (12, 9), (7, 9)]
)
def test_the_number_that_chance_explains_is_beta_binomial(chips, validation_chips):
    rank = int(ood_limit(np.arange(1.0, validation_chips + 1), 0.05))
    largest = largest_chance_count(chips, validation_chips, 0.05, 0.01)
    number = betabinom(chips, validation_chips + 1 - rank, rank)
    assert number.sf(largest - 1) >= 0.01 > number.sf(largest)


def test_chance_explains_less_with_more_validation_chips():
    counts = [largest_chance_count(200, n, 0.05, 0.01) for n in (60, 600, 10**6)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[2]
    assert counts[2] == binom.isf(0.01, 200, 0.05)
    assert largest_chance_count(0, 60, 0.05, 0.01) == 0


def test_the_nearest_of_several_references():
    rows = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 1.0]])
    references = np.array([[0.0, 0.0], [3.0, 5.0]])
    distances = nearest_distance(rows, references)
    assert distances.tolist() == pytest.approx([0, 1, 2**0.5])
