from types import SimpleNamespace

import pytest

from rsft.training.callbacks.early_stopping import Patience


def validate(patience, *scores):
    """Whether training ends, after each validation."""
    trainer = SimpleNamespace(should_stop=False)
    ends = []
    for score in scores:
        patience.on_validation_end(trainer, SimpleNamespace(val_macro=score))
        ends.append(trainer.should_stop)
    return ends


@pytest.mark.parametrize(
    ("least", "scores", "ends"),
    [
        (0.0, [0.5, 0.4, 0.6, 0.6, 0.6], [False, False, False, False, True]),
        (0.2, [0.5, 0.6, 0.65], [False, False, True]),
    ],
)
def test_ends_after_two_validations_without_a_better_one(least, scores, ends):
    assert validate(Patience(2, least), *scores) == ends


def test_goes_on_waiting_after_a_resume():
    first, second = Patience(2, 0.0), Patience(2, 0.0)
    validate(first, 0.5, 0.4)
    second.load_state_dict(first.state_dict())
    assert validate(second, 0.5) == [True]
    third, trainer = Patience(2, 0.0), SimpleNamespace(should_stop=False)
    third.load_state_dict(second.state_dict())
    third.on_train_start(trainer, None)
    assert trainer.should_stop
