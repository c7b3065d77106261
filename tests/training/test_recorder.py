"""Times of steps, and early stopping."""

import time

import pytest

from rsft.training import recorder
from rsft.training.recorder import EarlyStopping, StepTimer


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(recorder.time, "perf_counter", lambda: now[0])
    return now


def test_time_by_phase(clock):
    timer = StepTimer()
    with timer("inner"):
        clock[0] += 2
    clock[0] += 5  # waiting for data
    with timer("outer"):
        clock[0] += 4
    assert (timer.seconds("inner"), timer.seconds("outer"), timer.seconds("other")) == (
        2.0,
        4.0,
        0.0,
    )
    timer.reset()
    assert timer.seconds("inner") == 0.0


def test_timer_does_not_wait_for_the_gpu(monkeypatch):
    class Event:
        done = False
        at = 0.0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = time.perf_counter() * 1000

        def query(self):
            return Event.done

        def elapsed_time(self, end):
            return 1500.0

    monkeypatch.setattr(recorder.torch.cuda, "Event", Event)
    timer = StepTimer(cuda=True)
    with timer("inner"):
        pass
    assert timer.seconds("inner") == 0.0
    Event.done = True
    assert timer.seconds("inner") == 1.5


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
def test_training_stops_after_two_validations_without_a_better_one(
    min_delta, scores, stops
):
    assert stops_after(EarlyStopping(2, min_delta), *scores) == stops


def test_without_patience_training_never_stops():
    assert not any(stops_after(EarlyStopping(None, 0.0), 0.9, *[0.1] * 50))


def test_waiting_continues_after_a_resume():
    first = EarlyStopping(2, 0.0)
    second = EarlyStopping(2, 0.0)
    stops_after(first, 0.5, 0.4)
    second.load_state_dict(first.state_dict())
    assert not second.is_due
    assert stops_after(second, 0.5) == [True]
    third = EarlyStopping(2, 0.0)
    third.load_state_dict(second.state_dict())
    assert third.is_due  # a resumed run that had met the criterion stops at once
