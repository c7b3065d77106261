import pytest

from rsft.training.recorder import EarlyStopping


def stops_after(early_stopping, *scores):
    """Whether training stops, after each validation."""
    stops = []
    for score in scores:
        early_stopping.update(score)
        stops.append(early_stopping.is_due)
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


def test_without_patience_training_never_stops():
    assert not any(stops_after(EarlyStopping(None, 0.0), 0.9, *[0.1] * 50))


def test_waiting_continues_after_a_resume():
    first, second = EarlyStopping(2, 0.0), EarlyStopping(2, 0.0)
    stops_after(first, 0.5, 0.4)
    second.load_state_dict(first.state_dict())
    assert not second.is_due
    assert stops_after(second, 0.5) == [True]
    third = EarlyStopping(2, 0.0)
    third.load_state_dict(second.state_dict())
    assert third.is_due  # a resumed run that had met the criterion stops at once
