"""Calls of a reader cell: values, errors, objects that stay, limits."""

import gc
import os
import signal
import subprocess
import threading

import numpy as np
import pytest

from rsft.errors import DataError
from rsft.utils.cell.processes import Kept, ReaderCell
from rsft.utils.cell.walls import Walls, landlock_version
from tests.helpers.messages import mentions
from tests.helpers.style import ROOT
from tests.utils.cell import probes

WALLS = Walls((ROOT / "tests",), 2**33)


@pytest.fixture(scope="module")
def cell():
    cell = ReaderCell(WALLS, 60)
    yield cell
    cell.close()


def test_objects_that_are_no_values_stay_and_can_be_called(cell):
    add = cell.call(probes.adder, 2)
    assert isinstance(add, Kept)
    assert add(3) == 5
    assert cell.call(probes.apply, add, np.arange(2)).tolist() == [2, 3]
    assert list(cell.call(probes.count, 3)) == [0, 1, 2]


@pytest.mark.parametrize("fault", ["its reader ended", "within 5 s"])
def test_a_call_that_ends_its_process_costs_only_itself(fault):
    cell = ReaderCell(WALLS, 5)
    read = cell.call(probes.reader, fault)
    other = cell.call(probes.reader, fault)
    for number in (1, 2):
        assert read(number) == number
        with pytest.raises(DataError, match=mentions("cannot be read", fault)):
            read(-1)
    assert (read(3), other(4), read(5)) == (3, 4, 5)
    cell.close()


def test_an_iterator_is_not_begun_again(cell):
    numbers = iter(cell.call(probes.count, 3))
    assert next(numbers) == 0
    with pytest.raises(DataError):
        cell.call(probes.end)
    with pytest.raises(DataError, match="its reader ended"):
        next(numbers)


def test_objects_are_released(cell):
    before = cell.call(probes.count_kept)
    for _ in range(5):
        cell.call(probes.adder, 1)
    assert cell.call(probes.count_kept) <= before + 1


def test_calls_back(cell):
    calls = []

    def progress(*args, **kwargs):
        calls.append((args, kwargs))

    assert cell.call(probes.report, progress) == "done"
    assert calls == [((1,), {"total": 2})]


def test_an_error_of_a_callback_ends_the_call_and_its_process(cell):
    def progress(*_, **__):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cell.call(probes.report, progress)
    assert cell.call(probes.echo, 1) == 1


def test_lines_of_the_log_and_warnings_come_through(cell, caplog):
    with pytest.warns(UserWarning, match="a warning"):
        cell.call(probes.speak)
    assert caplog.messages == ["a line"]


def test_errors(cell):
    with pytest.raises(DataError, match="a fault") as raised:
        cell.call(probes.fail, "rsft")
    assert (raised.value.location, raised.value.hint) == ("a.tif", "leave it out")
    with pytest.raises(FileNotFoundError) as missing:
        cell.call(probes.fail, "os")
    assert (missing.value.errno, missing.value.filename) == (2, "a.tif")
    with pytest.raises(TypeError, match="no reason") as fault:
        cell.call(probes.fail, TypeError)
    assert "probes.py" in fault.value.__notes__[0]
    with pytest.raises(RuntimeError, match=mentions("UnicodeError", "no reason")):
        cell.call(probes.fail, probes.UnicodeError)


def test_what_a_function_prints_is_no_answer(cell):
    assert cell.call(probes.answer_too_much) == "quiet"


@pytest.mark.parametrize(
    ("function", "argument", "fault"),
    [
        (probes.allocate, 2**34, "within 8 GiB of memory"),
        (probes.end, None, "its reader ended"),
    ],
)
def test_a_process_that_fails_is_a_fault_of_the_file(function, argument, fault):
    cell = ReaderCell(WALLS, 60)
    arguments = () if argument is None else (argument,)
    with pytest.raises(DataError, match=mentions("cannot be read", fault)):
        cell.call(function, *arguments)
    assert cell.call(probes.echo, 1) == 1
    cell.close()


def test_threads_get_processes_of_their_own():
    cell = ReaderCell(WALLS, 60)
    barrier = threading.Barrier(2)
    found = set()

    def work():
        barrier.wait(30)
        found.add(cell.call(probes.sleepy_pid))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cell.close()
    assert len(found) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("seconds", [0, 60])
def test_a_process_ends_with_its_parent(seconds):
    """Also during a call."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        cell = ReaderCell(WALLS, 90)
        os.write(writer, b"%d\n" % cell.call(os.getpid))
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
        cell.call(probes.sleep, seconds)
        signal.pause()
    os.waitpid(child, 0)
    process = int(os.read(reader, 20))
    assert probes.ends(process)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_copy_of_the_process_leaves_the_cell_alone():
    """A thread that waits for the cell holds a lock at the time of the fork."""
    cell = ReaderCell(WALLS, 60)
    pid = cell.call(os.getpid)
    (process,) = [
        x for x in gc.get_objects() if isinstance(x, subprocess.Popen) and x.pid == pid
    ]
    # no public call of Popen holds its lock for long enough
    with process._waitpid_lock:
        child = os.fork()
        if not child:
            del cell
            gc.collect()
            os._exit(0)
        has_ended = probes.ends(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert has_ended
    assert cell.call(os.getpid) == pid
    cell.close()


def test_a_folder_that_is_made_later_can_be_read(tmp_path):
    cell = ReaderCell(Walls((ROOT / "tests", tmp_path / "new"), 2**33), 60)
    first = cell.call(os.getpid)
    (tmp_path / "new").mkdir()
    (tmp_path / "new/a").write_text("text")
    if landlock_version():
        with pytest.raises(PermissionError):
            cell.call(probes.read, tmp_path / "new/a")
    cell.allow(tmp_path / "new")
    assert cell.call(probes.read, tmp_path / "new/a") == "text"
    second = cell.call(os.getpid)
    (tmp_path / "new/below").mkdir()
    cell.allow(tmp_path / "new/below")
    assert cell.call(os.getpid) == second
    gc.collect()  # of the traceback above
    assert probes.ends(first)
    cell.close()
