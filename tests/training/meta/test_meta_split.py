import numpy as np
import pytest

from rsft.training.meta.meta_split import MetaRounds

LABELS = np.repeat([0, 1, 2, 3], [100, 40, 5, 2])


def rounds(**changes):
    settings = {"ratio": 0.2, "holdout": True, "sampling": "random", "batch_size": 16, "seed": 0}
    return MetaRounds(LABELS, **(settings | changes))


def test_subset_is_stratified():
    assert np.bincount(LABELS[rounds().subset(0)]).tolist() == [20, 8, 1, 1]


def test_holdout_keeps_the_loops_apart_with_every_class_on_both_sides():
    meta = rounds()
    assert not set(meta.subset(3)) & set(meta.inner(3))
    assert len(meta.subset(3)) + len(meta.inner(3)) == len(LABELS)
    assert set(LABELS[meta.inner(3)]) == set(LABELS[meta.subset(3)]) == {0, 1, 2, 3}


def test_without_holdout_the_inner_loop_sees_all():
    assert len(rounds(holdout=False).inner(0)) == len(LABELS)


def test_drawn_anew_every_round_and_alike_for_a_seed():
    assert not np.array_equal(rounds().subset(0), rounds().subset(1))
    assert np.array_equal(rounds().subset(1), rounds().subset(1))
    assert not np.array_equal(rounds().subset(0), rounds(seed=1).subset(0))
    assert np.array_equal(rounds().batch(2, 5), rounds().batch(2, 5))


def test_a_class_of_one_stays_with_the_inner_loop():
    meta = MetaRounds(np.array([0, 0, 0, 1]), ratio=0.5, holdout=True, sampling="random", batch_size=2, seed=0)
    assert 3 in meta.inner(0)


@pytest.mark.parametrize(
    ("sampling", "tail_share"), [("random", 2 / 30), ("class-balanced", 0.5), ("tail-heavy", 2 / (2 + 1 / 8 + 1 / 20))]
)
def test_sampling(sampling, tail_share):
    meta = rounds(sampling=sampling)
    drawn = np.concatenate([LABELS[meta.batch(0, number)] for number in range(400)])
    assert np.mean(drawn >= 2) == pytest.approx(tail_share, abs=0.03)


def test_random_batches_repeat_nothing():
    batch = rounds(batch_size=30).batch(0, 0)
    assert sorted(batch) == rounds().subset(0).tolist()


def test_a_round_of_several_epochs():
    meta = rounds(length=3)
    assert np.array_equal(meta.subset(0), meta.subset(2))
    assert not np.array_equal(meta.subset(2), meta.subset(3))
    assert not np.array_equal(meta.batch(0, 0), meta.batch(1, 0))
