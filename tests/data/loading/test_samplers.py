import numpy as np
import pytest

from rsft.data.loading.samplers import shard_batches, shard_loss_weight
from rsft.recipe.registries import SAMPLERS, sampling_exponent

LABELS = np.repeat([0, 1, 2], [900, 90, 10])
ALL = np.arange(1000)


def epoch_order(labels, members, sampler, seed, epoch):
    return SAMPLERS[sampler]().draw(
        labels, members, len(members), np.random.default_rng((seed, epoch))
    )


def test_natural_is_a_permutation():
    assert sorted(epoch_order(LABELS, ALL, "natural", 0, 0)) == ALL.tolist()


@pytest.mark.parametrize(
    ("sampler", "shares"),
    [
        ("class-balanced", [1 / 3, 1 / 3, 1 / 3]),
        ("square-root", np.sqrt([900, 90, 10]) / np.sqrt([900, 90, 10]).sum()),
    ],
)
def test_shares_of_classes(sampler, shares):
    drawn = np.concatenate(
        [epoch_order(LABELS, ALL, sampler, 0, epoch) for epoch in range(20)]
    )
    assert np.bincount(LABELS[drawn]) / len(drawn) == pytest.approx(shares, abs=0.015)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_the_exponent_says_how_often_classes_are_drawn(sampler):
    expected = np.array([900.0, 90.0, 10.0]) ** sampling_exponent(sampler)
    drawn = np.concatenate(
        [epoch_order(LABELS, ALL, sampler, 0, epoch) for epoch in range(20)]
    )
    assert np.bincount(LABELS[drawn]) / len(drawn) == pytest.approx(
        expected / expected.sum(), abs=0.015
    )


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_only_members_and_as_many_as_there_are(sampler):
    members = np.array([3, 5, 950, 995])
    drawn = epoch_order(LABELS, members, sampler, 0, 0)
    assert len(drawn) == 4 and set(drawn) <= set(members)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_a_function_of_seed_and_epoch(sampler):
    draws = [
        epoch_order(LABELS, ALL, sampler, *at).tolist()
        for at in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert draws[0] == draws[1] and draws[0] != draws[2] and draws[0] != draws[3]


def test_processes_share_the_chips_of_each_batch():
    order = np.arange(10, 20)
    parts = [shard_batches(order, 4, (rank, 3)) for rank in range(3)]
    assert [[batch.tolist() for batch in part] for part in parts] == [
        [[10, 13], [14, 17], [18]],
        [[11], [15], [19]],
        [[12], [16], [18]],  # the last one has the weight 0
    ]
    assert [batch.tolist() for batch in shard_batches(order, 4)] == [
        [10, 11, 12, 13],
        [14, 15, 16, 17],
        [18, 19],
    ]


@pytest.mark.parametrize(
    ("size", "weights"), [(4, [1.5, 0.75, 0.75]), (2, [1.5, 1.5, 0]), (0, [0, 0, 0])]
)
def test_the_mean_of_weighted_losses_is_that_of_all_chips(size, weights):
    shards = [(rank, 3) for rank in range(3)]
    assert [shard_loss_weight(size, shard) for shard in shards] == weights
