"""Lines that say what a command waits for."""

import math
import threading

import pytest

from rsft.cli.display import waiting
from rsft.cli.display.waiting import WaitingLines


@pytest.fixture
def clock(monkeypatch):
    """The seconds that have passed, in a list of one number."""
    seconds = [0.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: seconds[0])
    return seconds


@pytest.fixture
def lines():
    return WaitingLines(print)


def test_a_task_has_a_line_soon_and_then_now_and_then(clock, lines):
    printed = []
    for second in range(70):
        clock[0] = float(second)
        lines.report(100 * second, 15000, "classifying")
        printed.append(lines.next_line())
    shown = {second: line for second, line in enumerate(printed) if line}
    assert shown == {
        1: "classifying: 100 of 15,000",
        31: "classifying: 3,100 of 15,000",
        61: "classifying: 6,100 of 15,000",
    }


def test_short_tasks_have_no_line(clock, lines):
    for index in range(10):
        clock[0] = 0.4 * index
        lines.report(0, 0, f"task {index}")
        assert lines.next_line() == ""
    clock[0] += 1
    assert lines.next_line() == "task 9"


@pytest.mark.slow
def test_a_line_is_printed_while_one_step_of_a_task_runs(monkeypatch):
    """The task itself says nothing until it is done."""
    monkeypatch.setattr(waiting, "FIRST_LINE_SECONDS", 0.1)
    printed = []
    is_printed = threading.Event()

    def print_line(line):
        printed.append(line)
        is_printed.set()

    with WaitingLines(print_line) as lines:
        lines.report(0, 12, "frozen features")
        assert is_printed.wait(20)
    assert printed == ["frozen features: 0 of 12"]
    # nothing public tells whether the thread of the lines has ended
    assert not lines._thread.is_alive()


def test_tests_can_switch_the_lines_off(monkeypatch, clock, lines):
    monkeypatch.setattr(waiting, "FIRST_LINE_SECONDS", math.inf)
    lines.report(0, 0, "loading")
    clock[0] = 1e9
    assert lines.next_line() == ""
