import time

import pytest

from rsft.training import learner
from rsft.training.step_timer import StepTimer


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(learner.time, "perf_counter", lambda: now[0])
    return now


def test_time_of_a_joint_step_is_shared_by_rows(clock):
    timer = StepTimer()
    with timer(inner=1):
        clock[0] += 2
    clock[0] += 5  # waiting for data
    with timer(inner=24, outer=8):
        clock[0] += 4
    assert (timer.seconds("inner"), timer.seconds("outer"), timer.seconds("other")) == (5.0, 1.0, 0.0)
    timer.reset()
    assert timer.seconds("inner") == 0.0


def test_timer_does_not_wait_for_the_gpu(monkeypatch):
    class Event:
        done, at = False, 0.0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = time.perf_counter() * 1000

        def query(self):
            return Event.done

        def elapsed_time(self, end):
            return 1500.0

    monkeypatch.setattr(learner.torch.cuda, "Event", Event)
    timer = StepTimer(cuda=True)
    with timer(inner=1):
        pass
    assert timer.seconds("inner") == 0.0
    Event.done = True
    assert timer.seconds("inner") == 1.5
