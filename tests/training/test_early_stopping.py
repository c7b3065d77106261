from types import SimpleNamespace

import pytest

from rsft.training.early_stopping import EarlyStopping


def stops_after(callback, *scores):
    """Whether training stops, after each validation."""
    trainer = SimpleNamespace(should_stop=False)
    stops = []
    for score in scores:
        callback.on_validation_end(trainer, SimpleNamespace(val_macro=score))
        stops.append(trainer.should_stop)
    return stops


@pytest.mark.parametrize(
    ("min_delta", "scores", "stops"),
    [
        (0.0, [0.5, 0.4, 0.6, 0.6, 0.6], [False, False, False, False, True]),
        (0.2, [0.5, 0.6, 0.65], [False, False, True]),
    ],
)
def test_training_stops_after_two_validations_without_a_better_one(min_delta, scores, stops):
    assert stops_after(EarlyStopping(2, min_delta), *scores) == stops


def test_waiting_continues_after_a_resume():
    first, second = EarlyStopping(2, 0.0), EarlyStopping(2, 0.0)
    stops_after(first, 0.5, 0.4)
    second.load_state_dict(first.state_dict())
    assert stops_after(second, 0.5) == [True]
    third, trainer = EarlyStopping(2, 0.0), SimpleNamespace(should_stop=False)
    third.load_state_dict(second.state_dict())
    third.on_train_start(trainer, None)
    assert trainer.should_stop
