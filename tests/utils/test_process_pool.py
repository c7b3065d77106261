"""Results of worker processes, and workers that end with their parent."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from rsft.errors import RsftError
from rsft.utils.process_pool import imap_unordered


def square(number):
    return number, os.getpid()


def fail(number):
    if number == 2:
        raise ValueError(f"no {number}")
    return number


def kill(number):
    os.kill(os.getpid(), signal.SIGKILL)


def read_variable(name):
    return os.environ.get(name)


def test_workers_of_a_fork_server_have_the_environment_of_the_call(
    monkeypatch, request
):
    method = multiprocessing.get_start_method()
    request.addfinalizer(partial(multiprocessing.set_start_method, method, force=True))
    multiprocessing.set_start_method("forkserver", force=True)
    for value in ("early", "late"):  # the server starts with the first one
        monkeypatch.setenv("RSFT_TEST_POOL", value)
        names = ["RSFT_TEST_POOL"] * 2
        assert list(imap_unordered(read_variable, names, 2)) == [value] * 2


def test_one_job_works_here_and_lazily():
    taken = []
    results = imap_unordered(square, (taken.append(x) or x for x in range(3)), 1)
    assert next(results) == (0, os.getpid()) and taken == [0]
    assert [number for number, _ in results] == [1, 2]


def test_other_processes_take_tasks_as_they_become_free():
    taken = []

    def tasks():
        for number in range(40):
            taken.append(number)
            yield number

    results = imap_unordered(square, tasks(), 2)
    next(results)
    assert len(taken) < 20  # the remaining tasks do not exist yet
    numbers, processes = zip(*results, strict=True)
    assert len(numbers) == 39 and os.getpid() not in processes


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_the_work_is_raised_here(jobs):
    with pytest.raises(ValueError, match="no 2"):
        list(imap_unordered(fail, range(5), jobs))


def test_a_killed_process_is_an_error_with_a_hint():
    with pytest.raises(RsftError, match="killed") as raised:
        list(imap_unordered(kill, range(3), 2))
    assert "fewer processes" in raised.value.hint


PROGRAM = """
import os, time
from rsft.utils.process_pool import imap_unordered

def work(number):
    # One system call, as two workers write into the same pipe.
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(60)

if __name__ == "__main__":
    list(imap_unordered(work, range(2), 2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_their_parent(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, tmp_path / "program.py"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))


def is_running(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
