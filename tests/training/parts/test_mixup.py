"""Mixing of pairs of chips."""


def test_half_of_the_batches_are_mixed(make_learner):
    learner = make_learner("train.mixup=0.4")
    other = make_learner("train.mixup=0.4")
    drawn = []
    for epoch in range(20):
        for index in range(4):
            drawn.append(learner.prepare_step(epoch, index).mixing)
    # a resumed run mixes the same chips
    assert (other.prepare_step(19, 3).mixing is None) == (drawn[-1] is None)
    mixed = [item for item in drawn if item is not None]
    assert 25 < len(mixed) < 55 and all(0 <= x.share <= 1 for x in mixed)
    assert all(sorted(x.order.tolist()) == list(range(len(x.order))) for x in mixed)
    learner = make_learner()
    assert learner.prepare_step(0, 0).mixing is None
