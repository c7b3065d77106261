import numpy as np
import pytest

from rsft.recipe.schema import MetaSection, TrainSection
from rsft.training.meta.bilevel import MetaSplitter, outer_batch_size

LABELS = np.repeat([0, 1, 2, 3], [100, 40, 5, 2])


def make_splitter(batch_size=16, seed=0, **meta):
    return MetaSplitter(LABELS, MetaSection(**({"ratio": 0.2, "holdout": True} | meta)), batch_size, seed)


def test_the_meta_subset_is_stratified():
    assert np.bincount(LABELS[make_splitter().meta_subset(0)]).tolist() == [20, 8, 1, 1]


def test_holdout_separates_the_loops_with_every_class_on_both_sides():
    splitter = make_splitter()
    assert not set(splitter.meta_subset(3)) & set(splitter.inner_subset(3))
    assert len(splitter.meta_subset(3)) + len(splitter.inner_subset(3)) == len(LABELS)
    assert set(LABELS[splitter.inner_subset(3)]) == set(LABELS[splitter.meta_subset(3)]) == {0, 1, 2, 3}


def test_without_holdout_the_inner_loop_sees_all_chips():
    assert len(make_splitter(holdout=False).inner_subset(0)) == len(LABELS)


def test_every_epoch_has_another_split_that_depends_on_the_seed_only():
    assert not np.array_equal(make_splitter().meta_subset(0), make_splitter().meta_subset(1))
    assert np.array_equal(make_splitter().meta_subset(1), make_splitter().meta_subset(1))
    assert not np.array_equal(make_splitter().meta_subset(0), make_splitter(seed=1).meta_subset(0))
    assert np.array_equal(make_splitter().meta_batch(2, 5), make_splitter().meta_batch(2, 5))


def test_class_of_one_chip_is_in_the_inner_loop():
    labels = np.array([0, 0, 0, 1])
    splitter = MetaSplitter(labels, MetaSection(ratio=0.5, holdout=True), batch_size=2, seed=0)
    assert 3 in splitter.inner_subset(0)


@pytest.mark.parametrize(
    ("sampling", "tail_share"), [("random", 2 / 30), ("class-balanced", 0.5), ("tail-heavy", 2 / (2 + 1 / 8 + 1 / 20))]
)
def test_sampling_determines_the_share_of_the_tail(sampling, tail_share):
    splitter = make_splitter(sampling=sampling)
    drawn = np.concatenate([LABELS[splitter.meta_batch(0, number)] for number in range(400)])
    assert np.mean(drawn >= 2) == pytest.approx(tail_share, abs=0.03)


def test_random_batches_have_no_repeated_chip():
    batch = make_splitter(batch_size=30).meta_batch(0, 0)
    assert sorted(batch) == make_splitter().meta_subset(0).tolist()


def test_split_is_kept_for_several_epochs():
    splitter = make_splitter(resplit_every=3)
    assert np.array_equal(splitter.meta_subset(0), splitter.meta_subset(2))
    assert not np.array_equal(splitter.meta_subset(2), splitter.meta_subset(3))
    assert not np.array_equal(splitter.meta_batch(0, 0), splitter.meta_batch(1, 0))


@pytest.mark.parametrize(
    ("meta", "size"),
    [
        ({"batch_size": 5}, 5),
        ({}, 32),
        ({"schedule": "joint", "ratio": 0.2, "outer_every": 2}, 32),  # 128 inner chips, 0.2 / 0.8 of the epoch
        ({"schedule": "joint", "ratio": 0.25, "outer_every": 1, "holdout": False}, 16),
    ],
)
def test_the_size_of_an_outer_batch(meta, size):
    train = TrainSection(epochs=1, batch_size=32, accumulate_grad_batches=2)
    assert outer_batch_size(MetaSection(**meta), train) == size
