"""Epochs of 128 chips: different chips, in the order of the seed."""

import numpy as np

from rsft.recipe.registries import SAMPLERS, sampling_exponent


def draw(members, seed):
    rng = np.random.default_rng(seed)
    return SAMPLERS["random-128"]().draw(members, members, len(members), rng).tolist()


def test_an_epoch_has_128_different_chips():
    first, second = (draw(np.arange(100, 900), seed) for seed in (0, 1))
    assert len(set(first)) == len(first) == 128
    assert set(first) <= set(range(100, 900)) and first != second
    assert first == draw(np.arange(100, 900), 0)


def test_fewer_chips_are_all_drawn_and_the_prior_is_that_of_the_chips():
    assert sorted(draw(np.arange(100, 105), 0)) == [100, 101, 102, 103, 104]
    assert sampling_exponent("random-128") == 1
